package report

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/koala-lm/koala-lm/internal/visible"
)

// plain writes a value for programs: exact, unrounded, times in RFC 3339. A missing
// value is empty; NaN and infinity are NaN, inf and -inf.
func plain(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return string(v)
	case float64:
		if name := notFinite(v); name != "" {
			return name
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format(time.RFC3339)
	case []string:
		return strings.Join(v, ",")
	case []any, map[string]any:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
	return fmt.Sprint(value)
}

// notFinite names a value that is not finite, "" for any other.
func notFinite(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	return ""
}

// human writes a value of a column for people.
func (c Column) human(value any) string {
	if value == nil {
		return ""
	}
	if f, ok := value.(float64); ok && notFinite(f) != "" {
		return notFinite(f)
	}
	if c.Human != nil {
		return c.Human(value)
	}
	return visible.Text(plain(value))
}

// significant writes a number with four significant digits, as for perplexities:
// 8.123, 81.23, 812.3, 8,123.
func significant(value any) string {
	f, ok := value.(float64)
	if !ok {
		return visible.Text(plain(value))
	}
	magnitude := math.Abs(f)
	switch {
	case f == 0:
		return "0"
	case notFinite(f) != "":
		return notFinite(f)
	case magnitude < 1e-3 || magnitude >= 1e9:
		return strconv.FormatFloat(f, 'e', 2, 64)
	case magnitude >= 999.95:
		return humanize.CommafWithDigits(math.Round(f), 0)
	}
	digits := 3
	for limit := 9.9995; magnitude >= limit && digits > 0; limit *= 10 {
		digits--
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

// count writes a whole number with separators: 12,345.
func count(value any) string {
	switch v := value.(type) {
	case int64:
		return humanize.Comma(v)
	case float64:
		if notFinite(v) == "" {
			return humanize.Comma(int64(math.Round(v)))
		}
	}
	return plain(value)
}

// short writes a large number with a unit: 12.3k, 3.2M.
func short(value any) string {
	n, ok := value.(int64)
	switch {
	case !ok:
		return plain(value)
	case n < 10_000:
		return humanize.Comma(n)
	case n < 999_950:
		return strconv.FormatFloat(float64(n)/1e3, 'f', 1, 64) + "k"
	case n < 999_950_000:
		return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + "M"
	}
	return strconv.FormatFloat(float64(n)/1e9, 'f', 1, 64) + "G"
}

// span writes seconds as a duration: 850ms, 42s, 3m12s, 2h05m, 3d04h.
func span(value any) string {
	seconds, ok := value.(float64)
	if !ok {
		return plain(value)
	}
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// ago writes a time relative to now: 3 minutes ago.
func ago(now time.Time) func(any) string {
	return func(value any) string {
		t, ok := value.(time.Time)
		if !ok || t.IsZero() {
			return ""
		}
		return humanize.RelTime(t, now, "ago", "from now")
	}
}
