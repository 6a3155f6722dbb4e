// The C interface between internal/torch and this project's own C++. Every
// function that can fail returns 0 on success and another value after an
// exception, whose text koala_last_error then holds (for this thread).
//
// A koala_tensor is a torch::Tensor* as gotch keeps it: those passed in stay the
// caller's, those written to out are new and the caller's to free.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *koala_tensor;

const char *koala_last_error(void);

// runtime.cpp
void koala_tune_allocator(void);
void koala_return_blocks(void);
void koala_trim(void);
void koala_flush_denormals(int on);
int koala_manual_seed(uint64_t seed);
int koala_set_threads(int intraop);
int koala_threads(void);
const char *koala_libtorch_version(void);
const char *koala_cpu_capability(void);
int koala_open_cuda(const char **error);
int koala_cuda_devices(void);
int koala_free_memory(int device, int64_t *bytes);
int koala_shape(koala_tensor t, int64_t *sizes, int capacity);
int koala_item(koala_tensor t, double *value);
int koala_clone(koala_tensor t, koala_tensor *out);
int koala_copy(koala_tensor dst, koala_tensor src);
int koala_upload(koala_tensor t, int device, koala_tensor *out);
int koala_split(koala_tensor t, int64_t dim, const int64_t *sizes, int n, koala_tensor *out);
int koala_has_grad(koala_tensor t);
int koala_grad(koala_tensor t, koala_tensor *out);
int koala_clear_grad(koala_tensor t);
int koala_set_grad(koala_tensor t, koala_tensor gradient);
int koala_set_requires_grad(koala_tensor t, int on);
int koala_set_grad_mode(int on);
int koala_backward(koala_tensor *tensors, koala_tensor *gradients, int n);

// process_group.cpp
typedef void *koala_store;
typedef void *koala_group;
typedef void *koala_work;
int koala_store_open(const char *host, int *port, int server, int listener, const char *prefix, int64_t timeout_ms, koala_store *out);
void koala_store_close(koala_store s);
int koala_store_set(koala_store s, const char *key, const char *value);
int koala_store_get(koala_store s, const char *key, char *value, int capacity, int *length);
int koala_gloo_open(koala_store s, int rank, int size, const char *address, int64_t timeout_ms, koala_group *out);
int koala_nccl_open(koala_store s, int rank, int size, int device, int64_t timeout_ms, koala_group *out);
void koala_group_close(koala_group g);
int koala_all_reduce(koala_group g, koala_tensor t, koala_work *out);
int koala_work_wait(koala_work w, int cuda, int64_t timeout_ms);
void koala_work_free(koala_work w);

// reducer.cpp
typedef void *koala_reducer;
int koala_reducer_open(koala_group g, int buckets, const koala_tensor *flats, const int *counts, const koala_tensor *params,
                       const koala_tensor *parts, koala_reducer *out);
void koala_reducer_close(koala_reducer r);
void koala_reducer_prepare(koala_reducer r);
int koala_reducer_finish(koala_reducer r, koala_work *works, int *count);

// isa.cpp
const char *koala_isa(void);
int koala_check_isa(void);

// blas.cpp
const char *koala_mkl_isa(void);

// precision.cpp
int koala_autocast(int cuda, int on);
int koala_tf32(int on);

// recompute.cpp

// A function of a tensor x, which calls koala_return once.
typedef void (*koala_function)(uintptr_t id, koala_tensor x, void *result);
int koala_recompute(koala_tensor x, koala_function f, uintptr_t id, koala_tensor *out);
void koala_return(void *result, koala_tensor y, const char *error);

// foreach.cpp
int koala_foreach(const char *name, int n, const koala_tensor *a, const koala_tensor *b, const double *v, koala_tensor *out);
int koala_dense_alike(koala_tensor t, koala_tensor other);

// koala/native/optim.cpp

// What a kernel takes and gives, as names with commas between them, and the names
// of its state tensors, "" for a place that it does not use.
typedef struct {
  const char *args, *sums;
  const char *state[2];
} koala_kernel_info;

// One parameter in a pass: null where the kernel does not use a tensor.
typedef struct {
  koala_tensor p, g, state[2];
} koala_kernel_param;

uint64_t koala_address(koala_tensor t);
int koala_same(koala_tensor a, koala_tensor b);
int koala_fusable(koala_tensor p);
int koala_laid_out_like(koala_tensor p, koala_tensor t, koala_tensor *out);
int koala_kernel_find(const char *name, koala_kernel_info *info); // the kernel's number, -1 if there is none
int koala_kernel_run(int kernel, const koala_kernel_param *params, int count, const double *args, double *sums);

#ifdef __cplusplus
}
#endif
