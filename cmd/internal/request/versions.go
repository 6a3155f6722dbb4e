package request

// Versions is the output of `koala-lm-engine version`, as JSON on one line.
type Versions struct {
	Build    string   `json:"build"`    // of koala-lm-engine
	Gotch    string   `json:"gotch"`    // the module's version
	Libtorch string   `json:"libtorch"` // version of the loaded library
	CPU      string   `json:"cpu"`      // instruction sets that libtorch uses, such as AVX2
	Kernels  string   `json:"kernels"`  // instruction set of our kernels: default, v3 or v4
	Devices  []string `json:"devices"`  // such as "cpu", "cuda:0 NVIDIA L4, 23 GB"
}
