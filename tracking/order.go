package tracking

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// compileOrder turns "val_ppl,-started" into an ORDER BY: by names, the first
// first, falling after a minus. Runs without a value come last either way.
func compileOrder(ctx context.Context, q queryer, text string) (string, []any, error) {
	const newestFirst = "seen.started DESC, seen.number DESC"
	if text == "" {
		return newestFirst, nil, nil
	}
	var order strings.Builder
	var args []any
	for part := range strings.SplitSeq(text, ",") {
		part, falling := strings.CutPrefix(strings.TrimSpace(part), "-")
		if part == "" {
			return "", nil, fmt.Errorf("order %w: sort by names with commas between them, - before one for falling order; got %q", ErrBadQuestion, text)
		}
		name, err := findName(ctx, q, part)
		if errors.Is(err, ErrUnknownName) {
			return "", nil, fmt.Errorf("order %w: %w", ErrBadQuestion, err)
		}
		if err != nil {
			return "", nil, err
		}
		value, valueArgs := name.sql()
		order.WriteString(value)
		args = append(args, valueArgs...)
		if falling {
			order.WriteString(" DESC")
		}
		order.WriteString(" NULLS LAST, ")
	}
	return order.String() + newestFirst, args, nil
}
