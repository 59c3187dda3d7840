package oracle

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/diegoholiveira/jsonlogic/v3"
)

var update = flag.Bool("update", false, "write the results into the table of operators")

const table = "../../flags/jsonlogic/testdata/operators.txt"

// TestOperators checks the table of package jsonlogic's tests against flagd. Its lines are: rule | data | result, or
// "error".
func TestOperators(t *testing.T) {
	if _, err := New(nil); err != nil { // registers flagd's operators
		t.Fatal(err)
	}
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "#") {
			parts := strings.Split(line, " | ")
			want := theirResult(t, parts[0], parts[1])
			if !*update && (len(parts) != 3 || parts[2] != want) {
				t.Errorf("%s: flagd gives %s", line, want)
			}
			line = strings.Join([]string{parts[0], parts[1], want}, " | ")
		}
		lines = append(lines, line)
	}
	if *update {
		if err := os.WriteFile(table, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func theirResult(t *testing.T, rule, data string) string {
	t.Helper()
	var caller map[string]any
	if err := json.Unmarshal([]byte(data), &caller); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	caller["$flagd"] = map[string]any{"flagKey": "flag", "timestamp": 1700000000}
	text, err := json.Marshal(caller)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if jsonlogic.Apply(strings.NewReader(rule), bytes.NewReader(text), &out) != nil {
		return "error"
	}
	return strings.TrimSuffix(out.String(), "\n")
}
