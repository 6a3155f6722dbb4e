package torch

// #include "native/koala_native.h"
import "C"

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/sugarme/gotch"
)

// openCUDA loads libtorch_cuda, once. Loading takes about a second and needs the CUDA
// libraries, so it is done only when a CUDA device is requested.
var openCUDA = sync.OnceValue(func() error {
	var text *C.char
	if C.koala_open_cuda(&text) != 0 {
		return fmt.Errorf("libtorch's CUDA library does not load: %s (make setup-cuda fetches what it needs)", C.GoString(text))
	}
	unlimitMemory()
	return nil
})

// CUDADevices returns the number of usable CUDA devices. If there is none, the error is
// the reason.
func CUDADevices() (int, error) {
	if err := openCUDA(); err != nil {
		return 0, err
	}
	n := int(C.koala_cuda_devices())
	if n == 0 {
		return 0, fmt.Errorf("no CUDA device is visible: is the driver loaded, and does CUDA_VISIBLE_DEVICES hide it?")
	}
	return n, nil
}

// FreeMemory returns how many bytes of a CUDA device's memory tensors can still take.
func FreeMemory(d gotch.Device) (int64, error) {
	var bytes C.int64_t
	if C.koala_free_memory(C.int(d.Value), &bytes) != 0 {
		return 0, fmt.Errorf("free memory of %s: %w", DeviceName(d), nativeError())
	}
	return int64(bytes), nil
}

// ParseDevice returns the device named "cpu", "cuda", "cuda:N" or "auto": the first CUDA
// device if there is one, else the CPU.
func ParseDevice(name string) (gotch.Device, error) {
	kind, index, numbered := strings.Cut(name, ":")
	n := 0
	if numbered {
		var err error
		if n, err = strconv.Atoi(index); err != nil || n < 0 || kind != "cuda" {
			return gotch.CPU, fmt.Errorf("device %q: expected auto, cpu, cuda or cuda:N", name)
		}
	}
	switch kind {
	case "cpu":
		return gotch.CPU, nil
	case "auto":
		if _, err := CUDADevices(); err != nil {
			return gotch.CPU, nil
		}
		return gotch.CudaBuilder(0), nil
	case "cuda":
		have, err := CUDADevices()
		if err != nil {
			return gotch.CPU, fmt.Errorf("device %q: %w", name, err)
		}
		if n >= have {
			return gotch.CPU, fmt.Errorf("device %q: this machine has %d CUDA devices, cuda:0 to cuda:%d", name, have, have-1)
		}
		return gotch.CudaBuilder(uint(n)), nil
	}
	return gotch.CPU, fmt.Errorf("device %q: expected auto, cpu, cuda or cuda:N", name)
}

// DeviceName is the inverse of ParseDevice.
func DeviceName(d gotch.Device) string {
	if d.Name == "CUDA" {
		return "cuda:" + strconv.Itoa(d.Value)
	}
	return "cpu"
}
