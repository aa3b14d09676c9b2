/* A rank that uses every call of llmlaunch_rendezvous.h, in strict C99. Prints one line when all is as it should be;
 * otherwise the line of the call that was not. With the argument "end": waits until its generation ends. */
#define _POSIX_C_SOURCE 200809L
#include <llmlaunch_rendezvous.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(call)                                                                                                \
  do {                                                                                                            \
    int status_ = (call);                                                                                         \
    if (status_ != LLMLAUNCH_RDV_OK) {                                                                            \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, llmlaunch_rdv_status_name(status_), llmlaunch_rdv_error_text()); \
      exit(1);                                                                                                    \
    }                                                                                                             \
  } while (0)
#define CHECK(truth)                                             \
  do {                                                           \
    if (!(truth)) {                                              \
      fprintf(stderr, "line %d: not so: %s\n", __LINE__, #truth); \
      exit(1);                                                   \
    }                                                            \
  } while (0)

static void say_end(void *user, const char *reason) {
  printf("%s %s\n", (const char *)user, reason);
  fflush(stdout);
}

static int make_id(void *user, void *id) {
  memset(id, 'A' + *(int *)user, LLMLAUNCH_RDV_UNIQUE_ID_BYTES);
  return 0;
}

/* Two ids: rank 0 makes the first, the rank in the middle of the world the second. */
static void check_shared_ids(llmlaunch_rdv *job) {
  char ids[2 * LLMLAUNCH_RDV_UNIQUE_ID_BYTES];
  int rank = (int)llmlaunch_rdv_rank(job);
  int middle = (int)llmlaunch_rdv_world_size(job) / 2;
  CALL(llmlaunch_rdv_share_unique_ids(job, 2, make_id, &rank, ids));
  CHECK(ids[0] == 'A' && ids[127] == 'A' && ids[128] == 'A' + middle && ids[255] == 'A' + middle);
  CHECK(llmlaunch_rdv_share_unique_ids(job, 1000, make_id, &rank, ids) == LLMLAUNCH_RDV_INVALID_ARGUMENT);
}

static void check_unique_ids(llmlaunch_rdv *job) {
  unsigned char id[LLMLAUNCH_RDV_UNIQUE_ID_BYTES], given[LLMLAUNCH_RDV_UNIQUE_ID_BYTES];
  int i;
  for (i = 0; i < LLMLAUNCH_RDV_UNIQUE_ID_BYTES; ++i) id[i] = (unsigned char)(255 - i);
  if (llmlaunch_rdv_rank(job) == 0) CALL(llmlaunch_rdv_publish_unique_id(job, 7, id));
  CALL(llmlaunch_rdv_unique_id(job, 7, -1, given));
  CHECK(memcmp(id, given, sizeof id) == 0);
  CHECK(llmlaunch_rdv_unique_id(job, 8, 0, given) == LLMLAUNCH_RDV_TIMED_OUT);
  CHECK(strstr(llmlaunch_rdv_error_text(), "unique id 8 was not published within 0 ms") != NULL);
}

static void check_store(llmlaunch_rdv *job) {
  char mine[32];
  const char *both[2] = {"0/done", "1/done"};
  char **keys = NULL;
  size_t size = 0, count = 0;
  int64_t sum = 0;
  uint64_t length = 0;
  int yes = 0, more = 1;
  void *value = NULL;
  snprintf(mine, sizeof mine, "%u/key", (unsigned)llmlaunch_rdv_rank(job));
  CALL(llmlaunch_rdv_set(job, mine, "a\0b", 3));
  CALL(llmlaunch_rdv_get(job, mine, -1, &value, &size));
  CHECK(size == 3 && memcmp(value, "a\0b", 4) == 0);
  llmlaunch_rdv_free(value);
  CALL(llmlaunch_rdv_compare_and_set(job, mine, NULL, 0, "new", 3, &yes, &value, &size));
  CHECK(yes == 0 && size == 3 && memcmp(value, "a\0b", 3) == 0);
  llmlaunch_rdv_free(value);
  CALL(llmlaunch_rdv_compare_and_set(job, mine, "a\0b", 3, "new", 3, &yes, NULL, NULL));
  CHECK(yes == 1);
  CALL(llmlaunch_rdv_append(job, mine, "er", 2, &length));
  CHECK(length == 5);
  CALL(llmlaunch_rdv_list(job, mine, "", 0, &keys, &count, &more));
  CHECK(count == 1 && more == 0 && strcmp(keys[0], mine) == 0 && keys[1] == NULL);
  llmlaunch_rdv_free(keys);
  CALL(llmlaunch_rdv_delete(job, mine, &yes));
  CHECK(yes == 1);
  CALL(llmlaunch_rdv_delete(job, mine, &yes));
  CHECK(yes == 0);
  CHECK(llmlaunch_rdv_get(job, mine, 0, &value, &size) == LLMLAUNCH_RDV_TIMED_OUT);
  CALL(llmlaunch_rdv_add(job, "sum", 5, &sum));
  CHECK(sum % 5 == 0 && sum > 0);
  CHECK(llmlaunch_rdv_set(job, "", "", 0) == LLMLAUNCH_RDV_INVALID_ARGUMENT);
  CHECK(llmlaunch_rdv_set(job, NULL, "", 0) == LLMLAUNCH_RDV_INVALID_ARGUMENT);
  CHECK(strcmp(llmlaunch_rdv_error_text(), "argument key is NULL") == 0);
  snprintf(mine, sizeof mine, "%u/done", (unsigned)llmlaunch_rdv_rank(job));
  CALL(llmlaunch_rdv_set(job, mine, NULL, 0));
  CALL(llmlaunch_rdv_wait(job, both, 2, -1));
}

static void check_watch(llmlaunch_rdv *job) {
  llmlaunch_rdv_watch *watch = NULL;
  char *key = NULL;
  void *value = NULL;
  size_t size = 0;
  CALL(llmlaunch_rdv_watch_begin(job, "watched/", 1, &watch));
  struct pollfd news;
  CHECK(llmlaunch_rdv_watch_next(watch, 0, &key, &value, &size) == LLMLAUNCH_RDV_TIMED_OUT);
  CALL(llmlaunch_rdv_watch_descriptor(watch, &news.fd));
  CHECK(llmlaunch_rdv_watch_descriptor(watch, NULL) == LLMLAUNCH_RDV_INVALID_ARGUMENT);
  news.events = POLLIN;
  CHECK(poll(&news, 1, 0) == 0);
  CALL(llmlaunch_rdv_barrier(job, "all watch", -1));
  if (llmlaunch_rdv_rank(job) == 0) {
    CALL(llmlaunch_rdv_set(job, "watched/k", "", 0));
    CALL(llmlaunch_rdv_delete(job, "watched/k", NULL));
  }
  CHECK(poll(&news, 1, -1) == 1);
  CALL(llmlaunch_rdv_watch_next(watch, 0, &key, &value, &size));
  CHECK(strcmp(key, "watched/k") == 0 && value != NULL && size == 0);
  llmlaunch_rdv_free(key);
  llmlaunch_rdv_free(value);
  CALL(llmlaunch_rdv_watch_next(watch, -1, &key, &value, &size));
  CHECK(strcmp(key, "watched/k") == 0 && value == NULL);
  CHECK(poll(&news, 1, 0) == 0);
  llmlaunch_rdv_free(key);
  llmlaunch_rdv_watch_end(watch);
}

/* Rank 1 fails; the others hear of it by callback and by descriptor, and end by themselves. */
static int wait_for_end(llmlaunch_rdv *job) {
  struct pollfd end;
  end.fd = llmlaunch_rdv_end_descriptor(job);
  end.events = POLLIN;
  CHECK(llmlaunch_rdv_end_reason(job) == NULL);
  CHECK(poll(&end, 1, 0) == 0);
  CALL(llmlaunch_rdv_barrier(job, "all are here", -1));
  if (llmlaunch_rdv_rank(job) == 1) return 3;
  CHECK(poll(&end, 1, -1) == 1);
  CHECK(poll(&end, 1, -1) == 1); /* and stays readable */
  printf("descriptor %s\n", llmlaunch_rdv_end_reason(job));
  fflush(stdout);
  CHECK(llmlaunch_rdv_barrier(job, "too late", -1) == LLMLAUNCH_RDV_GENERATION_ENDED);
  llmlaunch_rdv_on_end(job, say_end, "late callback");
  llmlaunch_rdv_leave(job);
  return 0;
}

int main(int argc, char **argv) {
  llmlaunch_rdv *job = NULL;
  if (argc > 1 && strcmp(argv[1], "end") == 0) {
    signal(SIGTERM, SIG_IGN); /* this rank ends when it has heard */
    CALL(llmlaunch_rdv_join_environment(0, &job));
    llmlaunch_rdv_on_end(job, say_end, "callback");
    return wait_for_end(job);
  }
  CALL(llmlaunch_rdv_join_environment(0, &job));
  CHECK(llmlaunch_rdv_world_size(job) == (uint32_t)atoi(getenv("WORLD_SIZE")));
  CHECK(llmlaunch_rdv_generation(job) == (uint32_t)atoi(getenv("LLMLAUNCH_GENERATION")));
  check_unique_ids(job);
  check_shared_ids(job);
  check_store(job);
  check_watch(job);
  CALL(llmlaunch_rdv_barrier(job, "end", -1));
  printf("all calls work\n");
  llmlaunch_rdv_leave(job);
  llmlaunch_rdv_leave(NULL);
  return 0;
}
