package flags_test

import (
	"reflect"
	"testing"

	"github.com/sluice-cd/sluice/flags"
)

// What looks like a number is one only if no digit is lost.
func TestTypedValue(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       any
	}{
		{"targetingKey", "12345", "12345"}, {"targetingKey", "true", "true"}, {"targetingKey", "{}", "{}"},
		{"version", "1.10", "1.10"}, {"version", "1.1", 1.1}, {"zip", "01234", "01234"}, {"seats", "12", 12.0},
		{"id", "9007199254740993", "9007199254740993"}, {"id", "1e3", "1e3"}, {"big", "1e999", "1e999"},
		{"beta", "true", true}, {"plan", "pro", "pro"}, {"list", "[1,2]", []any{1.0, 2.0}},
	} {
		if got := flags.TypedValue(c.name, c.text); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s=%s is %#v", c.name, c.text, got)
		}
	}
}

// A whole number that is rounded is found wherever it is; one that is not, and text, are not.
func TestRoundedNumber(t *testing.T) {
	for text, want := range map[string]string{
		"9007199254740993": "9007199254740993", `{"user":{"id":-9007199254740993}}`: "-9007199254740993",
		`[1,"2",[18446744073709551617]]`: "18446744073709551617",
		"9007199254740992":               "", "12": "", "1.5": "", "1e400": "", `"9007199254740993"`: "", "pro": "",
	} {
		if got := flags.RoundedNumber([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
