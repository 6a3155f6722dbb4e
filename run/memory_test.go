package run

import "testing"

func TestMemory(t *testing.T) {
	before := residentBytes()
	text := make([]byte, 64<<20)
	for i := range text {
		text[i] = 1 // an untouched page is not resident
	}
	now, peak := residentBytes(), PeakBytes()
	if before == 0 || now < before+int64(len(text))*9/10 || peak < now*9/10 || text[len(text)-1] != 1 {
		t.Errorf("%d bytes are resident, %d with %d more, %d at the most", before, now, len(text), peak)
	}
}
