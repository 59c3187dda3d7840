package engine

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
)

// R11: what can't be found out does not hold: wrong answers, NaN, slowness.
func TestProberAnswers(t *testing.T) {
	below := 0.01
	vector := func(value string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"` + value +
			`"]}]}}`
	}
	for name, c := range map[string]struct {
		metric bool
		status int
		body   string
		holds  bool
		reason string
	}{
		"check":            {false, 204, "", true, ""},
		"check refused":    {false, 503, "not yet", false, `answered 503: "not yet"`},
		"check redirected": {false, 302, "", false, "answered 302"},
		"metric":           {true, 200, vector("0.001"), true, ""},
		"metric above":     {true, 200, vector("0.5"), false, "0.5 is not below 0.01"},
		"metric NaN":       {true, 200, vector("NaN"), false, "the value is NaN"},
		"two values": {true, 200, strings.Replace(vector("0"), `"result":[`, `"result":[{"value":[1,"0"]},`, 1),
			false, "returned 2 values"},
		"no value": {true, 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`, false,
			"returned 0 values"},
		"query error":    {true, 400, `{"status":"error","error":"parse error"}`, false, "parse error"},
		"not Prometheus": {true, 200, "<html>", false, "not Prometheus's JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.String()
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			p := plan.Probe{Channel: "dedicated", Gate: "g", Subject: "sha256:a", Release: "1.1.0"}
			if c.metric {
				p.Metric = &channels.Metric{Prometheus: server.URL, Query: `errors{release="{release}"}`, Below: &below,
					ValidFor: time.Minute, Timeout: 5 * time.Second}
			} else {
				p.Check = &channels.Check{URL: server.URL + "/{channel}/{release}", ValidFor: time.Minute,
					Timeout: 5 * time.Second}
			}
			now := time.Now()
			o := HTTPProber{}.Observe(t.Context(), p, now)
			if o.Holds != c.holds || !strings.Contains(o.Reason, c.reason) {
				t.Errorf("answer %+v", o)
			}
			if !strings.Contains(asked, "1.1.0") {
				t.Errorf("asked %s", asked)
			}
			if d := o.ValidUntil.Sub(now); c.holds && d != time.Minute || !c.holds && d > time.Minute {
				t.Errorf("valid for %s", d)
			}
		})
	}
}

func TestProberDoesNotWaitForEver(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	p := plan.Probe{Check: &channels.Check{URL: server.URL, Timeout: 50 * time.Millisecond, ValidFor: time.Minute}}
	if o := (HTTPProber{}).Observe(t.Context(), p, time.Now()); o.Holds ||
		!strings.Contains(o.Reason, "no answer within 50ms") {
		t.Errorf("answer %+v", o)
	}
}
