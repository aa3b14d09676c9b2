/// \file
/// LLMLAUNCH_SANITIZED: 1 in a build with AddressSanitizer or ThreadSanitizer, by GCC or Clang, else 0.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LLMLAUNCH_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LLMLAUNCH_SANITIZED 1
#endif
#endif
#ifndef LLMLAUNCH_SANITIZED
#define LLMLAUNCH_SANITIZED 0
#endif
