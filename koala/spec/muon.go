package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Muon steps along the orthogonal factor of a matrix's momentum (Jordan et al.,
// 2024), as PyTorch has it:
//
//	m = momentum m + (1 - momentum) g
//	M = momentum m + (1 - momentum) g with Nesterov's look-ahead, else m
//	p <- (1 - lr wd) p - lr s U V^T,  M = U S V^T
//
// by Newton-Schulz iterations. s is sqrt(max(1, rows/columns)) (original), or
// 0.2 sqrt(max(rows, columns)), which gives steps of the size of Adam's
// (match_rms_adamw, Liu et al. 2025), so that one learning rate suits both.
// AdamW updates embeddings, output layers, biases and gains.
var Muon = register(Kind{
	Name: "muon", Rank: 10, DecoupledDecay: true,
	About: "orthogonalized momentum for matrices (Jordan et al. 2024), as PyTorch, and AdamW for the rest",
	Hyper: append([]setting.Declaration{
		lr(always(0.01)), weightDecay(always(0.1)), usualClip(),
		share("momentum", "share of the last step's direction that is kept", always(0.95)),
		hyper("nesterov", "look ahead along the momentum", setting.Bool{}, always(true)),
		hyper("adjust_lr", "how a matrix's shape scales its step", setting.OneOf{matchAdamW, "original"}, always(matchAdamW)),
	}, append(adamSettings(), newtonSchulzSettings()...)...),
	Published: setting.Values{"lr": 1e-3, "adjust_lr": "original", "clip": 0},
	Temporary: orthogonalTemporary,
	New: func(v setting.Values) Rule {
		return &muon{
			adam: newAdam(v, true), momentum: v.Float("momentum"), nesterov: v.Bool("nesterov"),
			matchAdamW: v.Word("adjust_lr") == matchAdamW, orthogonal: newNewtonSchulz(v, "muon", "momentum"),
		}
	},
})

const matchAdamW = "match_rms_adamw"

type muon struct {
	*adam
	momentum             float64
	nesterov, matchAdamW bool
	orthogonal           newtonSchulz
}

func (o *muon) State() State {
	matrices := func(p *Param) []int64 {
		if p.isMatrix() {
			return p.Shape
		}
		return nil
	}
	s := State{Tensors: []TensorState{{Name: "momentum", Shape: matrices}}, Numbers: []ParamNumber{steps}}
	for _, t := range o.adam.State().Tensors {
		t.Shape = (*Param).shapeUnlessMatrix
		s.Tensors = append(s.Tensors, t)
	}
	return s
}

func (o *muon) Update(st *Step) {
	matrices, rest := st.split()
	o.adam.step(st, rest)
	o.orthogonal.step(st, blocksOf(matrices), o.momentum, o.nesterov, func(b block) (keep, rate float64) {
		size := math.Sqrt(max(1, float64(b.rows)/float64(b.cols)))
		if o.matchAdamW {
			size = b.adamSize()
		}
		rate = st.Rate(b.p)
		return 1 - rate*b.p.WeightDecay, rate * size
	})
	st.Info.EffectiveLR = st.LR
}
