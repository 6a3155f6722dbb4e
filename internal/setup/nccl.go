package main

import (
	"context"
	"os"
	"path/filepath"
)

// ncclSource uses classes of libtorch_cuda, which the native library does not
// link. So it is compiled into a separate library, if CUDA's headers are
// installed.
const ncclSource = nativeDir + "/cuda/nccl.cpp"

// cudaIncludes returns the folders of CUDA's headers next to libtorch in the
// folder torch, in the layout of NVIDIA's wheels. It returns none if any is
// missing.
func cudaIncludes(torch string) []string {
	nvidia := filepath.Join(filepath.Dir(torch), "nvidia")
	cuda, nccl := filepath.Join(nvidia, "cu13", "include"), filepath.Join(nvidia, "nccl", "include")
	for _, header := range []string{
		filepath.Join(nccl, "nccl.h"), filepath.Join(cuda, "cuda_runtime.h"), filepath.Join(cuda, "crt", "host_config.h"),
		filepath.Join(cuda, "nv", "target"), filepath.Join(cuda, "cublas_v2.h"), filepath.Join(cuda, "cusparse.h"), filepath.Join(cuda, "cusolverDn.h"),
	} {
		if _, err := os.Stat(header); err != nil {
			return nil
		}
	}
	return []string{cuda, nccl}
}

// compileNCCL makes dir/libkoala_nccl.so.
func compileNCCL(ctx context.Context, root, dir, torch string, includes []string) error {
	lib := filepath.Join(torch, "lib")
	args := append([]string{"-shared"}, nativeFlags...)
	args = append(args, filepath.Join(root, ncclSource), "-o", filepath.Join(dir, "libkoala_nccl.so"),
		"-isystem", filepath.Join(torch, "include"), "-isystem", filepath.Join(torch, "include/torch/csrc/api/include"))
	for _, include := range includes {
		args = append(args, "-isystem", include)
	}
	args = append(args, "-L"+lib, "-ltorch_cuda", "-ltorch_cpu", "-lc10_cuda", "-lc10", "-Wl,-rpath,"+lib, "-Wl,--enable-new-dtags")
	_, err := command(ctx, "", nil, "g++", args...)
	return err
}
