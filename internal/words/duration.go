package words

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration parses a length of time as people write it: as Go does, and with whole days before it: 36h, 7d, 2d12h.
func ParseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	wrong := fmt.Errorf("%.40q is no length of time such as 36h, 7d or 2d12h", s)
	head, rest, ok := strings.Cut(s, "d")
	days, err := strconv.ParseUint(head, 10, 15)
	if !ok || err != nil {
		return 0, wrong
	}
	d := time.Duration(days) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 {
		return 0, wrong
	}
	return d + more, nil
}

// ExactDuration formats a duration exactly, without the zero units that String has: 24h, not 24h0m0s.
func ExactDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// FormatElapsed formats a measured duration for people: 24h2m, 7m30s, 45s, 300ms. From an hour on seconds are dropped,
// and from a second on milliseconds; nothing is rounded up.
func FormatElapsed(d time.Duration) string {
	switch abs := d.Abs(); {
	case abs >= time.Hour:
		d = d.Truncate(time.Minute)
	case abs >= time.Second:
		d = d.Truncate(time.Second)
	default:
		d = d.Truncate(time.Millisecond)
	}
	return ExactDuration(d)
}
