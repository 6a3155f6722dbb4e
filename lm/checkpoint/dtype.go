package checkpoint

import (
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/safetensors"
)

// dtypes pairs libtorch's types with the format's.
var dtypes = map[gotch.DType]safetensors.DType{
	gotch.Bool: safetensors.Bool, gotch.Uint8: safetensors.U8, gotch.Int8: safetensors.I8,
	gotch.Int16: safetensors.I16, gotch.Half: safetensors.F16, gotch.BFloat16: safetensors.BF16,
	gotch.Int: safetensors.I32, gotch.Float: safetensors.F32,
	gotch.Int64: safetensors.I64, gotch.Double: safetensors.F64, gotch.ComplexFloat: safetensors.Complex,
}

func dtypeOf(d safetensors.DType) (gotch.DType, bool) {
	for dtype, name := range dtypes {
		if name == d {
			return dtype, true
		}
	}
	return gotch.Invalid, false
}
