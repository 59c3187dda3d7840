package ofrep

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// Every answer below /ofrep is JSON, whatever was asked.
func TestAnswersBelowOFREPAreJSON(t *testing.T) {
	compiled, err := flags.Compile(&flags.Bundle{Version: flags.BundleVersion, Channel: "c"})
	if err != nil {
		t.Fatal(err)
	}
	folded := compiled.Fold(flags.Orders{}, flags.Facts{}, 1)
	h := New(newTestSource(folded, 1), zerolog.Nop(), Options{})
	for _, c := range []struct {
		method, path, coding string
		status               int
		code                 string
	}{
		{"POST", "/ofrep/v1/evaluate/flags/a/b", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "/ofrep/v1/evaluate/flags/a/b/", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "/ofrep/v1/evaluate/flags/", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "/ofrep/v1/evaluate/flags/a//b", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "/ofrep/v1/evaluate/flags//a", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "/ofrep/v1/evaluate/flags/./a", "", 404, "FLAG_NOT_FOUND"},
		{"POST", "//ofrep/v1/evaluate/flags/a", "", 404, ""},
		{"POST", "/ofrep", "", 404, ""},
		{"OPTIONS", "/ofrep/v1/evaluate/flags", "", 403, ""},
		{"GET", "/ofrep/v1/evaluate/flags/a", "", 405, ""},
		{"PUT", "/ofrep/v1/evaluate/flags", "", 405, ""},
		{"POST", "/ofrep/v1/events", "", 405, ""},
		{"POST", "/ofrep/v2/evaluate/flags", "", 404, ""},
		{"GET", "/ofrep/", "", 404, ""},
		{"POST", "/ofrep/v1/evaluate/flags", "gzip", 415, "GENERAL"},
		{"POST", "/ofrep/v1/evaluate/flags/a", "br", 415, "GENERAL"},
		{"POST", "/ofrep/v1/evaluate/flags", "identity", 200, ""},
	} {
		r := httptest.NewRequest(c.method, "http://localhost"+c.path, strings.NewReader("{}"))
		if c.coding != "" {
			r.Header.Set("Content-Encoding", c.coding)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var body struct{ ErrorCode string }
		err := json.Unmarshal(w.Body.Bytes(), &body)
		if err != nil || w.Code != c.status || body.ErrorCode != c.code ||
			w.Header().Get("Content-Type") != "application/json" ||
			(w.Code == http.StatusMethodNotAllowed) != (w.Header().Get("Allow") != "") {
			t.Errorf("%s %s: %d %s %v", c.method, c.path, w.Code, w.Body, err)
		}
	}
}
