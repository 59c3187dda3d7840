package ofrep

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// TestReloadsAndEvaluations runs 1,000 reloads in parallel with 1,000 evaluations of each kind: each answer is of one
// folding.
func TestReloadsAndEvaluations(t *testing.T) {
	raw := testBundle().Encode()
	c := newTestSource(foldBundle(t, 0), 0)
	h := New(c, zerolog.Nop(), Options{})
	var group sync.WaitGroup
	for i := range 1000 {
		group.Go(func() {
			b, err := flags.ParseBundle(raw)
			if err != nil {
				t.Error(err)
				return
			}
			compiled, err := flags.Compile(b)
			if err != nil {
				t.Error(err)
				return
			}
			at := int64(i % 300)
			c.setFlags(compiled.Fold(flags.Orders{}, acmeFacts(), at), at)
		})
		group.Go(func() {
			got := httptest.NewRecorder()
			body := fmt.Sprintf(`{"context":{"targetingKey":"user-%d"}}`, i)
			h.ServeHTTP(got, localRequest(http.MethodPost, bulkPath, body))
			on, shown := strings.Contains(got.Body.String(),
				`"key":"gated","reason":"STATIC","variant":"on"`), strings.Contains(got.Body.String(), `"secret"`)
			if got.Code != 200 || shown && !on {
				t.Errorf("%d: an answer of two foldings: %s", got.Code, got.Body)
			}
		})
		group.Go(func() {
			got := httptest.NewRecorder()
			h.ServeHTTP(got, localRequest(http.MethodPost, flagPath+"gated", `{}`))
			if got.Code != 200 {
				t.Errorf("%d: %s", got.Code, got.Body)
			}
			got = httptest.NewRecorder()
			h.ServeHTTP(got, localRequest(http.MethodGet, flagsPath, ""))
			if got.Code != 200 {
				t.Errorf("%d: %s", got.Code, got.Body)
			}
		})
	}
	group.Wait()
}

func localRequest(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost"
	return r
}

// FuzzRequest checks that no request makes the handler panic, and that each gets a status and body of OFREP.
func FuzzRequest(f *testing.F) {
	f.Add("POST", flagPath+"rule", `{"context":{"targetingKey":"ann","tier":"gold"}}`, "", "")
	f.Add("POST", bulkPath, `{"context":{"tier":{"var":"tier"}}}`, `W/"x"`, "https://a.b")
	f.Add("POST", bulkPath, `{"context":[`, "*", "")
	f.Add("GET", flagsPath, "", "", "")
	f.Add("OPTIONS", flagPath+"..", "", "", "null")
	h := New(newTestSource(foldBundle(f, 100), 100), zerolog.Nop(), Options{Origins: []string{"https://a.b"}})
	f.Fuzz(func(t *testing.T, method, path, body, tag, origin string) {
		if strings.HasPrefix(path, eventsPath) { // a stream does not end by itself
			return
		}
		r := localRequest(http.MethodPost, "/", body)
		r.Method, r.URL.Path, r.URL.RawPath = method, path, ""
		r.Header.Set("If-None-Match", tag)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		got := httptest.NewRecorder()
		h.ServeHTTP(got, r)
		switch got.Code {
		case 200, 204, 304, 307, 400, 403, 404, 405, 413:
		default:
			t.Fatalf("%s %s: %d %s", method, path, got.Code, got.Body)
		}
	})
}
