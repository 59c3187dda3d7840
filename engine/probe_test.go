package engine

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
)

func loopback(t *testing.T) reach.List {
	t.Helper()
	l, err := reach.Parse([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

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
		"a hint alone": {true, 200, `{"status":"success","isPartial":false,"warnings":[],"infos":["a hint"]` +
			strings.TrimPrefix(vector("0"), `{"status":"success"`), true, ""},
		"warnings": {true, 200, `{"warnings":["partial response: eu-1 is down"],` + vector("0")[1:], false,
			`may lack a part of the data: "partial response: eu-1 is down"`},
		"partial":        {true, 200, `{"isPartial":true,` + vector("0")[1:], false, "may lack a part of the data"},
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
			o := NewHTTPProber(loopback(t), nil).Observe(t.Context(), p, now)
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
	if o := NewHTTPProber(loopback(t), nil).Observe(t.Context(), p, time.Now()); o.Holds ||
		!strings.Contains(o.Reason, "no answer within 50ms") {
		t.Errorf("answer %+v", o)
	}
}

// R53: gates ask only where the list allows, and reasons quote only what listed hosts answer.
func TestR53Gates(t *testing.T) {
	const secret = "DB_PASSWORD=wJalr"
	below := 1.0
	var body string
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if strings.HasPrefix(r.URL.Path, "/refuse") {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	parse := func(entry string) reach.List {
		l, err := reach.Parse([]string{entry})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	observe := func(l reach.List, metric bool) plan.Observation {
		p := plan.Probe{Check: &channels.Check{URL: server.URL + "/refuse", Timeout: time.Minute,
			ValidFor: time.Minute}}
		if metric {
			p = plan.Probe{Metric: &channels.Metric{Prometheus: server.URL, Query: "x", Below: &below,
				Timeout: time.Minute, ValidFor: time.Minute}}
		}
		return NewHTTPProber(l, nil).Observe(t.Context(), p, time.Now())
	}
	// The class loopback allows to ask, and lists no host by itself.
	for _, body = range []string{
		secret, `{"status":"error","error":"` + secret + `"}`, `{"status":"` + secret + `"}`,
		`{"status":"success","data":{"resultType":"` + secret + `"}}`,
		`{"status":"success","data":{"resultType":"scalar","result":"` + secret + `"}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1,"` + secret + `"]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"` + secret + `"]}]}}`,
	} {
		for _, metric := range []bool{false, true} {
			if o := observe(parse("loopback"), metric); o.Holds || strings.Contains(o.Reason+o.Value, "wJalr") {
				t.Errorf("%s: observed %+v", body, o)
			}
			before := asked
			if o := observe(parse("public"), metric); o.Holds || asked != before ||
				!strings.Contains(o.Reason, "127.0.0.1 is not where gates may ask: sluice serve --gates-reach") {
				t.Errorf("%s: asked %d times, observed %+v", body, asked-before, o)
			}
		}
	}
	body = "why: \x1b[2J\u202e\nno " + strings.Repeat("x", 5000)
	if o := observe(loopback(t), false); !strings.Contains(o.Reason, "answered 418: \"why: ") ||
		strings.ContainsAny(o.Reason, "\x1b\u202e\n") || len(o.Reason) > 500 {
		t.Errorf("%q", o.Reason)
	}
}

// R53: what a gate's URL holds, such as a password, is in no reason.
func TestR53ReasonsShowNoURL(t *testing.T) {
	for _, address := range []string{"http://u:s3cret@127.0.0.1:9/s3cret", "http://u:s3cret@host.invalid/s3cret",
		"http://u:s3 cret@127.0.0.1/", "http://s3cret@10.0.0.1/?token=s3cret"} {
		p := plan.Probe{Check: &channels.Check{URL: address, Timeout: 10 * time.Second, ValidFor: time.Minute}}
		o := NewHTTPProber(loopback(t), nil).Observe(t.Context(), p, time.Now())
		if o.Holds || strings.Contains(o.Reason, "cret") {
			t.Errorf("%s: %+v", address, o)
		}
	}
}
