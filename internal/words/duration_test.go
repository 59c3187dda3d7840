package words

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"36h": 36 * time.Hour, "7d": 7 * day, "2d12h": 2*day + 12*time.Hour, "0s": 0, "-3h": -3 * time.Hour, "0d": 0,
		"1d30m": day + 30*time.Minute,
	} {
		if d, err := ParseDuration(text); d != want || err != nil {
			t.Errorf("%s: %s, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "d", "7", "-7d", "7d-1h", "1.5d", "7dd", "d7", "2d 12h", "99999d", "1w"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%s: %s", text, d)
		}
	}
}
