package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
)

// Version is the version of the metadata; a reader refuses a newer one.
const Version = 1

// Origin identifies the run of a checkpoint.
type Origin struct {
	Run         string          `json:"run"`
	Settings    json.RawMessage `json:"settings"` // all of them, dotted keys
	Dataset     string          `json:"dataset"`  // path from the checkpoint's folder; absolute in older files
	Fingerprint string          `json:"dataset_fingerprint"`
	Tokenizer   string          `json:"tokenizer_sha256"`
	Vocab       int             `json:"vocab"`
	Build       string          `json:"build"` // version of koala-lm
}

// State is a checkpoint's content besides its tensors.
type State struct {
	Version   int            `json:"version"`
	Origin    Origin         `json:"origin"`
	Progress  lm.Progress    `json:"progress"`
	Cursor    data.Cursor    `json:"cursor"`
	Optimizer OptimizerState `json:"optimizer"`
}

// OptimizerState is the part of an optimizer's state that is not tensors.
type OptimizerState struct {
	Kind    string           `json:"kind"`
	Scalars map[string]exact `json:"scalars,omitempty"`
	Ints    map[string]int64 `json:"ints,omitempty"`
}

// exact is a float64 that survives JSON bit for bit, infinities and NaN included.
type exact float64

func (x exact) MarshalJSON() ([]byte, error) {
	v := float64(x)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.AppendQuote(nil, strconv.FormatFloat(v, 'g', -1, 64)), nil
	}
	return json.Marshal(v)
}

func (x *exact) UnmarshalJSON(text []byte) error {
	var s string
	if json.Unmarshal(text, &s) != nil {
		s = string(text)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%s is not a number", text)
	}
	*x = exact(v)
	return nil
}

func exactly(m map[string]float64) map[string]exact {
	out := make(map[string]exact, len(m))
	for name, v := range m {
		out[name] = exact(v)
	}
	return out
}

func plainly(m map[string]exact) map[string]float64 {
	out := make(map[string]float64, len(m))
	for name, v := range m {
		out[name] = float64(v)
	}
	return out
}
