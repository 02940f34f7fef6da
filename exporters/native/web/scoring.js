/** Scores of recordings from their embeddings, as `sparsify verify` computes them. */

/** An embedding without the mean, of length one; zeros, which have no direction, stay so. */
function centred(embedding, mean) {
  const values = Float64Array.from(embedding, (value, i) => value - (mean?.[i] ?? 0));
  const length = Math.hypot(...values) || 1;
  return values.map((value) => value / length);
}

/**
 * The cosine of a voice and a recording.
 * @param {ArrayLike<number>[]} enrolled embeddings of the voice; the mean of their directions counts
 * @param {ArrayLike<number>} test embedding of the recording
 * @param {number[] | null} mean what is subtracted from every embedding, if anything
 */
export function score(enrolled, test, mean) {
  const voice = new Float64Array(test.length);
  for (const each of enrolled) centred(each, mean).forEach((value, i) => (voice[i] += value));
  const [one, other] = [centred(voice), centred(test, mean)];
  return one.reduce((sum, value, i) => sum + value * other[i], 0);
}
