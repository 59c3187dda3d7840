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

func TestFormatElapsed(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 24*time.Hour + 2*time.Minute: "24h2m", 24*time.Hour + 2*time.Minute + 59*time.Second: "24h2m",
		45 * time.Second:                      "45s",
		45*time.Second + 900*time.Millisecond: "45s", 10 * time.Minute: "10m", 90 * time.Second: "1m30s",
		10 * time.Hour:           "10h",
		300*time.Millisecond + 7: "300ms", 999 * time.Nanosecond: "0s", 100 * time.Hour: "100h",
		-90 * time.Minute: "-1h30m",
	} {
		if got := FormatElapsed(d); got != want {
			t.Errorf("FormatElapsed(%d) = %s, want %s", d, got, want)
		}
	}
}
