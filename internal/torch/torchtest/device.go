// Package torchtest gives tests a number of threads, and a CUDA device on machines
// without one. internal/torch/native/testdevice/device.cpp says what that device finds.
package torchtest

// #define _GNU_SOURCE
// #include <dlfcn.h>
// #include <stdlib.h>
// #include "../native/testdevice/testdevice.h"
//
// static int counts(koala_test_device_numbers *out) {
// 	void (*f)(koala_test_device_numbers *) = dlsym(RTLD_DEFAULT, "koala_test_device_counts");
// 	if (f != NULL)
// 		f(out);
// 	return f != NULL;
// }
//
// static int report(int64_t free) {
// 	void (*f)(int64_t) = dlsym(RTLD_DEFAULT, "koala_test_device_report");
// 	if (f != NULL)
// 		f(free);
// 	return f != NULL;
// }
//
// static char *reasons(void) {
// 	char *(*f)(void) = dlsym(RTLD_DEFAULT, "koala_test_device_reasons");
// 	return f != NULL ? f() : NULL;
// }
import "C"

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Variable is the environment variable that makes a process use the test device as its
// CUDA device. Its value is the device's memory in MiB.
const Variable = "KOALA_LM_TEST_DEVICE"

// GPU is the environment variable that makes tests use the machine's own CUDA device, and
// fail if there is none.
const GPU = "KOALA_LM_TEST_GPU"

// Open returns the device of a package's tests. Call it in TestMain: libtorch starts a
// thread for each device that is there at the first backward pass.
func Open() gotch.Device {
	if os.Getenv(GPU) == "" && os.Getenv(Variable) == "" {
		_ = os.Setenv(Variable, "1024")
	}
	device, err := torch.ParseDevice("cuda")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return device
}

// Counts are what a device did.
type Counts struct {
	Launches                int64 // operators
	ToDevice, ToDeviceBytes int64 // copies from the host
	ToHost, ToHostBytes     int64 // copies to the host
	Waits                   int64 // times that the host waited for the device
	Peak                    int64 // most bytes in use at a time, less those before
	HostPeak                int64 // likewise of the CPU's tensors
	Reasons                 []string
}

// Count returns what the test device does while f runs. counted is false on a GPU, which
// does not count.
func Count(f func()) (c Counts, counted bool) {
	var before, after C.koala_test_device_numbers
	if counted = C.counts(&before) != 0; !counted {
		f()
		return c, false
	}
	reasons()
	f()
	C.counts(&after)
	return Counts{
		Launches: int64(after.launches - before.launches),
		ToDevice: int64(after.to_device - before.to_device), ToDeviceBytes: int64(after.to_device_bytes - before.to_device_bytes),
		ToHost: int64(after.to_host - before.to_host), ToHostBytes: int64(after.to_host_bytes - before.to_host_bytes),
		Waits: int64(after.waits - before.waits), Peak: int64(after.peak_bytes - before.bytes), HostPeak: int64(after.host_peak_bytes - before.host_bytes), Reasons: reasons(),
	}, true
}

// ReportFree makes the test device report so many bytes of memory as free until undo is
// called. It returns false on a GPU.
func ReportFree(bytes int64) (undo func(), ok bool) {
	return func() { C.report(0) }, C.report(C.int64_t(bytes)) != 0
}

func reasons() []string {
	text := C.reasons()
	defer C.free(unsafe.Pointer(text))
	return strings.FieldsFunc(C.GoString(text), func(r rune) bool { return r == '\n' })
}
