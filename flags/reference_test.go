package flags

import (
	"testing"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// encodedSize is never less than the encoded size.
func TestWidthIsEnough(t *testing.T) {
	for _, v := range []any{nil, true, false, 0.0, -1.2345678901234567e-300, 1e21, "", "a", "\u2028\u2029",
		"\x01\"\\<>&", "é世🙂\x7f"} {
		if n := len(jsondoc.AppendScalar(nil, v)) + 1; n > encodedSize(v) {
			t.Errorf("%q takes %d bytes, and %d are counted", v, n, encodedSize(v))
		}
	}
}
