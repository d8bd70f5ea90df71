// Lets a binary built on a new Linux run where Node itself runs (glibc 2.28): the linker's --wrap leads calls of
// functions whose default symbol version is younger (most moved from libpthread into libc in 2.34) to their oldest
// version, which every glibc still has. `native/prebuilds.mjs` and a test read the finished binary's versions; a new
// entry needs its name in kWrapped of CMakeLists.txt as well.
#include <features.h>
#include <pthread.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cstdint>

#if defined(__x86_64__)
#define OCELLI_GLIBC_OLDEST "GLIBC_2.2.5"
#define OCELLI_GLIBC_SETNAME "GLIBC_2.12"
#define OCELLI_STAT_VERSION 1
#elif defined(__aarch64__)
#define OCELLI_GLIBC_OLDEST "GLIBC_2.17"
#define OCELLI_GLIBC_SETNAME "GLIBC_2.17"
#define OCELLI_STAT_VERSION 0
#else
#error "Expected x86-64 or AArch64"
#endif

#define OCELLI_OLD_VERSION(version, type, name, parameters, arguments) \
  __asm__(".symver ocelli_old_" #name ", " #name "@" version);         \
  extern "C" type ocelli_old_##name parameters;                        \
  extern "C" type __wrap_##name parameters;                            \
  extern "C" type __wrap_##name parameters { return ocelli_old_##name arguments; }
#define OCELLI_OLD(type, name, parameters, arguments) \
  OCELLI_OLD_VERSION(OCELLI_GLIBC_OLDEST, type, name, parameters, arguments)

OCELLI_OLD(int, pthread_create, (pthread_t * thread, const pthread_attr_t* attr, void* (*start)(void*), void* argument),
           (thread, attr, start, argument))
OCELLI_OLD(int, pthread_join, (pthread_t thread, void** result), (thread, result))
OCELLI_OLD(int, pthread_detach, (pthread_t thread), (thread))
OCELLI_OLD(int, pthread_once, (pthread_once_t * once, void (*routine)()), (once, routine))
OCELLI_OLD(int, pthread_sigmask, (int how, const sigset_t* set, sigset_t* old), (how, set, old))
OCELLI_OLD(int, pthread_attr_setstacksize, (pthread_attr_t * attr, size_t size), (attr, size))
OCELLI_OLD(int, pthread_key_create, (pthread_key_t * key, void (*destructor)(void*)), (key, destructor))
OCELLI_OLD(int, __pthread_key_create, (pthread_key_t * key, void (*destructor)(void*)), (key, destructor))
OCELLI_OLD(int, pthread_key_delete, (pthread_key_t key), (key))
OCELLI_OLD(void*, pthread_getspecific, (pthread_key_t key), (key))
OCELLI_OLD(int, pthread_setspecific, (pthread_key_t key, const void* value), (key, value))
OCELLI_OLD(int, pthread_mutex_trylock, (pthread_mutex_t * mutex), (mutex))
OCELLI_OLD_VERSION(OCELLI_GLIBC_SETNAME, int, pthread_setname_np, (pthread_t thread, const char* name), (thread, name))
OCELLI_OLD(void*, dlopen, (const char* path, int flags), (path, flags))
OCELLI_OLD(void*, dlsym, (void* library, const char* name), (library, name))
OCELLI_OLD(int, dlclose, (void* library), (library))
OCELLI_OLD(char*, dlerror, (), ())
OCELLI_OLD(double, exp, (double x), (x))
OCELLI_OLD(double, exp2, (double x), (x))
OCELLI_OLD(double, log, (double x), (x))
OCELLI_OLD(double, log2, (double x), (x))
OCELLI_OLD(double, pow, (double x, double y), (x, y))

// stat and its family are functions of their own since 2.33; before, the headers led to these.
__asm__(".symver ocelli_old_xstat, __xstat@" OCELLI_GLIBC_OLDEST);
__asm__(".symver ocelli_old_fxstat, __fxstat@" OCELLI_GLIBC_OLDEST);
__asm__(".symver ocelli_old_lxstat, __lxstat@" OCELLI_GLIBC_OLDEST);
extern "C" {
int ocelli_old_xstat(int version, const char* path, struct stat* out);
int ocelli_old_fxstat(int version, int file, struct stat* out);
int ocelli_old_lxstat(int version, const char* path, struct stat* out);
int __wrap_stat(const char* path, struct stat* out);
int __wrap_fstat(int file, struct stat* out);
int __wrap_lstat(const char* path, struct stat* out);
int __wrap_stat(const char* path, struct stat* out) { return ocelli_old_xstat(OCELLI_STAT_VERSION, path, out); }
int __wrap_fstat(int file, struct stat* out) { return ocelli_old_fxstat(OCELLI_STAT_VERSION, file, out); }
int __wrap_lstat(const char* path, struct stat* out) { return ocelli_old_lxstat(OCELLI_STAT_VERSION, path, out); }

// The static libstdc++ of a new system asks for these two.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
uint32_t __wrap_arc4random();
uint32_t __wrap_arc4random() {
  uint32_t value = 0;
  while (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
  }
  return value;
}
}
