package repository

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Regular expressions for the types that parse text themselves, for JSON Schemas.
const (
	DurationPattern  = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*|[0-9]+d)$`
	LocalTimePattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$`
	WhenPattern      = `^(ready|never|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?)$`
	ReadinessPattern = `^(wait|(skip|block) ([1-9][0-9]?|100)%)$`
)

// UnmarshalText parses 30m, 24h or 7d, not a negative duration.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	x, err := time.ParseDuration(s)
	if err != nil || x < 0 {
		return fmt.Errorf("must be a length of time such as 30m, 24h or 7d, not %.60q", s)
	}
	*d = Duration(x)
	return nil
}

// MarshalText returns the text that UnmarshalText parses.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns the form in files: 30m, not 30m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Words for When and Readiness in files.
const (
	ready = "ready"
	never = "never"
	wait  = "wait"
	skip  = "skip"
	block = "block"
)

// UnmarshalText parses ready, never or a wall time.
func (w *PublishTime) UnmarshalText(text []byte) error {
	switch string(text) {
	case ready:
		*w = PublishTime{Ready: true}
		return nil
	case never:
		*w = PublishTime{Never: true}
		return nil
	}
	var at LocalTime
	if err := at.UnmarshalText(text); err != nil {
		return fmt.Errorf("must be ready, never or %s", strings.TrimPrefix(err.Error(), "must be "))
	}
	*w = PublishTime{At: at}
	return nil
}

// MarshalText returns the text that UnmarshalText parses.
func (w PublishTime) MarshalText() ([]byte, error) {
	switch {
	case w.Ready:
		return []byte(ready), nil
	case w.Never:
		return []byte(never), nil
	}
	return w.At.MarshalText()
}

// UnmarshalText parses wait, skip 90% or block 90%.
func (r *Readiness) UnmarshalText(text []byte) error {
	mode, share, found := strings.Cut(string(text), " ")
	digits, isPercent := strings.CutSuffix(share, "%")
	percent, err := strconv.Atoi(digits)
	switch {
	case mode == wait && !found:
		*r = Readiness{Mode: wait}
	case (mode == skip || mode == block) && isPercent && err == nil && percent >= 1 && percent <= 100 &&
		digits[0] != '+':
		*r = Readiness{Mode: mode, Percent: percent}
	default:
		return fmt.Errorf("must be wait, skip 90%% or block 90%%, with 1 to 100 percent, not %.60q", text)
	}
	return nil
}

// MarshalText returns the text that UnmarshalText parses.
func (r Readiness) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String returns the form in files.
func (r Readiness) String() string {
	if r.Mode == "" || r.Mode == wait {
		return wait
	}
	return fmt.Sprintf("%s %d%%", r.Mode, r.Percent)
}
