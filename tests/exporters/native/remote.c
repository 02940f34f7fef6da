/* Calls functions for tests in another process, which machines.py describes (class Remote).
 *
 * Compiled with -DFUNCTIONS='F(one) F(another)', and with the files that have these.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBER, READ, WRITTEN };
enum { ALIGNMENT = 64, MOST_ARGUMENTS = 8, LONGEST_NAME = 63 };

#define F(name) void name(void);
FUNCTIONS
#undef F
#define F(name) {#name, name},
static const struct {
  const char *name;
  void (*function)(void);
} functions[] = {FUNCTIONS};

/* Where arguments are passed in registers, a function may be given more of them than it takes. */
typedef int any_function(intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t, intptr_t);

struct argument {
  struct {
    int32_t kind, place;
    int64_t value; /* of a number, or how many bytes */
  } given;
  char *memory;
};

static void receive(void *to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes) exit(2);
}

static void send(const void *from, size_t bytes) {
  if (fwrite(from, 1, bytes, stdout) != bytes) exit(2);
}

static any_function *function_named(const char *name) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    const char *a = functions[i].name, *b = name;
    while (*a && *a == *b) a++, b++;
    if (*a == *b) return (any_function *)functions[i].function;
  }
  fprintf(stderr, "there is no %s here\n", name);
  exit(2);
}

/* Its number, or the address of its memory, which lies as it does for the caller. */
static intptr_t received(struct argument *a) {
  receive(&a->given, sizeof a->given);
  if (a->given.kind == NUMBER) return (intptr_t)a->given.value;
  const size_t room = ((size_t)a->given.value / ALIGNMENT + 2) * ALIGNMENT;
  a->memory = aligned_alloc(ALIGNMENT, room);
  if (!a->memory) exit(2);
  receive(a->memory + a->given.place, (size_t)a->given.value);
  return (intptr_t)(a->memory + a->given.place);
}

int main(void) {
  int32_t sizes[2];
  while (fread(sizes, 1, sizeof sizes, stdin) == sizeof sizes) {
    char name[LONGEST_NAME + 1] = {0};
    struct argument arguments[MOST_ARGUMENTS] = {0};
    intptr_t values[MOST_ARGUMENTS] = {0};
    if (sizes[0] > LONGEST_NAME || sizes[1] > MOST_ARGUMENTS) return 2;
    receive(name, (size_t)sizes[0]);
    any_function *const function = function_named(name);
    for (int i = 0; i < sizes[1]; i++) values[i] = received(&arguments[i]);
    const int32_t result = function(values[0], values[1], values[2], values[3], values[4], values[5],
                                    values[6], values[7]);
    send(&result, sizeof result);
    for (int i = 0; i < sizes[1]; i++) {
      const struct argument *a = &arguments[i];
      if (a->given.kind == WRITTEN) send(a->memory + a->given.place, (size_t)a->given.value);
      free(a->memory);
    }
    if (fflush(stdout)) return 2;
  }
  return 0;
}
