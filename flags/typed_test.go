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
