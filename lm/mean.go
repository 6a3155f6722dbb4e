package lm

// Mean is a running mean of losses weighted by tokens, exact enough over an
// epoch and plain enough to be kept in a checkpoint.
type Mean struct {
	Sum    float64 `json:"sum"` // nats
	Tokens int64   `json:"tokens"`
}

// Add takes in the mean loss over so many tokens.
func (m *Mean) Add(nats float64, tokens int64) {
	m.Sum += nats * float64(tokens)
	m.Tokens += tokens
}

// Nats returns the mean, 0 of nothing.
func (m Mean) Nats() float64 {
	if m.Tokens == 0 {
		return 0
	}
	return m.Sum / float64(m.Tokens)
}
