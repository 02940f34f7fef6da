#!/bin/sh
# The study of docs/study.md: some 150 trainings of a small network, about nineteen hours on two cores.
# What is complete is not repeated, so the same call goes on after a stop.
#
#   sh benchmarks/study.sh SPEECH OUTPUT [OPTION_OF_COMPARE...]
#
# SPEECH holds train/, test/, test_noisy/ and trials.txt; OUTPUT gets a folder for each part.
set -eu
speech=$1 output=$2
shift 2
unseen=$output/conditions
mkdir -p "$output"
[ -d "$unseen" ] || python -m sparsify.benchmarks.unseen_conditions \
    --test "$speech/test" --voices "$speech/train" --output "$unseen"

everywhere=$*
part() { # FOLDER OPTION...
    folder=$1
    shift
    sparsify compare --recipe speech-mini --data "$speech/train" --output "$output/$folder" \
        --test clean="$speech/trials.txt:$speech/test" \
        --test noisy="$speech/trials.txt:$speech/test_noisy" \
        --test room="$speech/trials.txt:$unseen/room" \
        --test babble="$speech/trials.txt:$unseen/babble" \
        --test telephone="$speech/trials.txt:$unseen/telephone" "$@" $everywhere
}

# Tuning, at 90 % with the first seed; the recipe has the best of all that was tried. Every method gets
# three learning rates, a factor of two or three apart, and two values or more of another option; some
# one more where the best was at the edge. The default decay of 0.0001 does nothing in 1000
# steps, so its users get others.
part rates --seeds 0 --targets 0.9 --methods dense,gmp,one-shot,rigl \
    --set methods.dense.weight_decay=0.0001 --set methods.gmp.weight_decay=0.0001 \
    --set methods.rigl.weight_decay=0.0001 \
    --tune dense.lr=0.001,0.002,0.004 --tune gmp.lr=0.001,0.002,0.004,0.008 \
    --tune one-shot.lr=0.001,0.002,0.004 --tune rigl.lr=0.001,0.002,0.004,0.008
part decay --seeds 0 --targets 0.9 --methods dense,gmp,one-shot,rigl \
    --tune dense.weight_decay=0.3,1,3 --tune gmp.weight_decay=0.3,1,3 \
    --tune one-shot.weight_decay=0.3,1 --tune rigl.weight_decay=1,3
part less-decay --seeds 0 --targets 0.9,0.95 --methods rewa --set methods.rewa.latent_decay=0.1 \
    --tune rewa.latent_lr=0.01,0.02,0.04
part schedule --seeds 0 --targets 0.9 --methods adabreg,linbreg,gmp,prescribed-l1 \
    --tune adabreg.every=1,10 --tune linbreg.every=1,10 --tune gmp.end=0.4,0.8 \
    --tune prescribed-l1.allocation=uniform,erk
part scratch --seeds 0 --targets 0.9 --methods adabreg,linbreg,rewa,prescribed-l1 \
    --tune adabreg.lr=0.003,0.006,0.012 --tune linbreg.lr=1,2,4 \
    --tune rewa.latent_decay=0.03,0.1,0.3,1 --tune prescribed-l1.lr=0.1,0.3,1

part scratch --seeds 0 --targets 0.9,0.95 \
    --methods dense,adabreg,linbreg,gmp,one-shot,rigl,rewa,prescribed-l1
part scratch --seeds 0 --targets 0.75,0.99 --methods adabreg,linbreg,gmp
part scratch --seeds 1,2 --targets 0.9,0.95 --methods dense,adabreg,linbreg,gmp

# Dense training with the default decay, which validation speakers did not choose.
part little-decay --seeds 0,1,2 --methods dense --set methods.dense.weight_decay=0.0001

# The rules for λ.
part fixed --seeds 0 --targets 0.9 --methods adabreg-fixed \
    --set methods.adabreg-fixed.lr=0.006 --tune adabreg-fixed.lambda_value=0.08,0.15,0.25,0.4
part adaptive --seeds 0 --targets 0.9 --methods adabreg \
    --set methods.adabreg.lambda_rule=adaptive

# Further ways to prune, tuned in the same way, on a processor with bf16.
part more-rates --seeds 0 --targets 0.9 --methods granet,acdc,str,snip \
    --set methods.granet.weight_decay=0.0001 --set methods.snip.weight_decay=0.0001 \
    --set methods.str.threshold_decay=1 \
    --tune granet.lr=0.001,0.002,0.004,0.008 --tune acdc.lr=0.001,0.002,0.004,0.008 \
    --tune str.lr=0.002,0.004,0.008 --tune snip.lr=0.001,0.002,0.004,0.008
part more-decay --seeds 0 --targets 0.9 --methods granet,acdc,str,snip \
    --tune granet.weight_decay=0.0001,1,3 --tune acdc.weight_decay=0.0001,1,3 \
    --tune str.threshold_decay=1,1.5,2 --tune snip.weight_decay=0.0001,1,3
part more --seeds 0 --targets 0.9,0.95 --methods adabreg,gmp,granet,acdc,str,snip

# Half of the steps for a dense network, half to make it sparse, at rates of their own.
half="--set training.steps=500"
part dense $half --seeds 0,1,2 --methods dense
for seed in 0 1 2; do
    set -- $half --init-from "$output/dense/runs/dense-seed$seed" --seeds "$seed"
    targets=0.9,0.95
    if [ "$seed" = 0 ]; then
        part from-dense-rates "$@" --targets 0.9 --methods gmp --tune gmp.lr=0.001,0.002,0.004
        part from-dense-adabreg "$@" --targets 0.9,0.95 --methods adabreg \
            --tune adabreg.lr=0.0015,0.003,0.006
        part from-dense-linbreg "$@" --targets 0.9,0.95 --methods linbreg \
            --tune linbreg.lr=0.5,1,2,4
        targets=0.75,0.9,0.95,0.99
    else
        part "from-dense-adabreg-$seed" "$@" --targets 0.9 --methods adabreg \
            --set methods.adabreg.lr=0.003
    fi
    part "from-dense-$seed" "$@" --targets "$targets" --methods gmp --set methods.gmp.lr=0.002
done
