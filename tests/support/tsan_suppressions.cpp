// What ThreadSanitizer is told of libraries that were not compiled for it; part of every program that links them,
// because no environment variable of the tests reaches a program that sshd starts.

extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier): the sanitizer's name

extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  // oneDNN's threads meet at barriers of GCC's OpenMP, which it does not see: each memset of theirs looks like a race.
  return "called_from_lib:libdnnl.so\n";
}
