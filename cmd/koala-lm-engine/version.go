package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/koala-lm/koala-lm/cmd/internal/request"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// version prints the versions of this program and its libraries, and the
// devices.
func version(w io.Writer) error {
	v := request.Versions{
		Build:    buildVersion("", runtime.Version()),
		Gotch:    buildVersion("github.com/sugarme/gotch", "unknown"),
		Libtorch: torch.LibtorchVersion(),
		CPU:      torch.CPUCapability(),
		Kernels:  torch.ISA(),
		Devices:  []string{"cpu"},
	}
	if n, err := torch.CUDADevices(); err == nil {
		for i := range n {
			v.Devices = append(v.Devices, fmt.Sprintf("cuda:%d", i))
		}
	}
	return json.NewEncoder(w).Encode(v)
}

// buildVersion returns the version of a module in this program, or the
// program's own if module is "".
func buildVersion(module, otherwise string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return otherwise
	}
	if module == "" {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return otherwise
}
