package ofrep

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const flagPath = "/ofrep/v1/evaluate/flags/"
const bulkPath = "/ofrep/v1/evaluate/flags"

func TestSingle(t *testing.T) {
	url := serve(t, newTestSource(foldBundle(t, 100), 100), Options{})
	for key, test := range map[string]struct {
		body   string
		status int
		want   string
	}{
		"static": {`{"context":{}}`, 200, `{"key":"static","reason":"STATIC","variant":"a","value":"<b>&"}`},
		"rule": {
			`{"context":{"targetingKey":"ann","tier":"gold"}}`, 200,
			`{"key":"rule","reason":"TARGETING_MATCH","variant":"hi","value":{"n":[1,2.5,null]},"metadata":{"owner":"web","weight":1.5}}`,
		},
		"page": {
			``, 200, `{"key":"page","reason":"STATIC","variant":"a","value":1,"metadata":{"expose":"client"}}`,
		},
		"off":  {`{}`, 200, `{"key":"off","reason":"DISABLED"}`},
		"none": {`{"context":null}`, 200, `{"key":"none","reason":"DEFAULT"}`},
		"bad":  {`{"context":{"tier":"gold"}}`, 400, `{"key":"bad","errorCode":"GENERAL","errorDetails":`},
		"gated": {
			`{"context":{}}`, 200,
			`{"key":"gated","reason":"STATIC","variant":"on","value":true,"metadata":{"feature":"f","off":"off"}}`,
		},
		"secret": {
			`{"context":{}}`, 200,
			`{"key":"secret","reason":"STATIC","variant":"off","value":false,"metadata":{"expose":"client","feature":"s","off":"off"}}`,
		},
		"zz%20spaces": {`{"context":{}}`, 200, `{"key":"zz spaces","reason":"STATIC","variant":"a","value":1}`},
		"unknown":     {`{"context":{}}`, 404, `{"key":"unknown","errorCode":"FLAG_NOT_FOUND","errorDetails":`},
		"a%2Fb":       {`{"context":{}}`, 404, `{"key":"a/b","errorCode":"FLAG_NOT_FOUND","errorDetails":`},
	} {
		t.Run(key, func(t *testing.T) {
			for range 2 { // the second answer comes from the cache
				got := request(t, "POST", url+flagPath+key, test.body, "Content-Type", "application/json")
				if got.status != test.status || !strings.HasPrefix(got.body, test.want) ||
					test.status == 200 && got.body != test.want {
					t.Errorf("%d %s\nwant %d %s", got.status, got.body, test.status, test.want)
				}
				if got.header.Get("Content-Type") != "application/json" {
					t.Errorf("it is %q", got.header.Get("Content-Type"))
				}
			}
		})
	}
}

// TestWrongRequests checks OFREP's codes for invalid evaluation contexts, for one flag and for all.
func TestWrongRequests(t *testing.T) {
	url := serve(t, newTestSource(foldBundle(t, 100), 100), Options{})
	deep := func(n int) string {
		return `{"context":{"a":` + strings.Repeat("[", n-2) + strings.Repeat("]", n-2) + `}}`
	}
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"no JSON":                    {`{"context":`, 400, "PARSE_ERROR"},
		"no object":                  {`[]`, 400, "PARSE_ERROR"},
		"null":                       {`null`, 400, "PARSE_ERROR"},
		"something after it":         {`{"context":{}} {}`, 400, "PARSE_ERROR"},
		"brackets the wrong way":     {`}}}}]]]]`, 400, "PARSE_ERROR"},
		"endless text":               {`{"context":{"a":"` + strings.Repeat("x", 60_000), 400, "PARSE_ERROR"},
		"context is text":            {`{"context":"ann"}`, 400, "INVALID_CONTEXT"},
		"context is a list":          {`{"context":[]}`, 400, "INVALID_CONTEXT"},
		"key is a number":            {`{"context":{"targetingKey":1}}`, 400, "INVALID_CONTEXT"},
		"key is an object":           {`{"context":{"targetingKey":{"var":"x"}}}`, 400, "INVALID_CONTEXT"},
		"too deep":                   {deep(33), 400, "INVALID_CONTEXT"},
		"deep, and cut off":          {strings.Repeat("[", 60_000), 400, "INVALID_CONTEXT"},
		"as deep as may be":          {deep(32), 200, ""},
		"brackets in text":           {`{"context":{"a":"` + strings.Repeat(`[\"`, 50) + `"}}`, 200, ""},
		"too large":                  {`{"context":{"a":"` + strings.Repeat("x", 64<<10) + `"}}`, 413, "GENERAL"},
		"white space, and too large": {strings.Repeat(" ", 64<<10+1), 413, "GENERAL"},
		"context in another case":    {`{"Context":"ann"}`, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{flagPath + "static", bulkPath} {
				got := request(t, "POST", url+path, test.body)
				var failure struct{ Key, ErrorCode, ErrorDetails string }
				if err := json.Unmarshal([]byte(got.body), &failure); err != nil {
					t.Fatal(err)
				}
				if got.status != test.status || failure.ErrorCode != test.code ||
					(failure.ErrorDetails == "") != (test.code == "") {
					t.Errorf("%s: %d %s, want %d %s", path, got.status, got.body, test.status, test.code)
				}
				if test.code != "" && (failure.Key == "static") != (path != bulkPath) {
					t.Errorf("%s: key %q", path, failure.Key)
				}
			}
		})
	}
}

func TestBodyOfUnknownLength(t *testing.T) {
	url := serve(t, newTestSource(foldBundle(t, 100), 100), Options{})
	for size, want := range map[int]int{100: 200, 1 << 20: 413} {
		body := struct{ *strings.Reader }{strings.NewReader(`{"context":{"a":"` + strings.Repeat("x", size) + `"}}`)}
		r, err := http.NewRequestWithContext(t.Context(), "POST", url+bulkPath, body) // a body of unknown length
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = got.Body.Close()
		if got.StatusCode != want {
			t.Errorf("%d bytes: %d, want %d", size, got.StatusCode, want)
		}
	}
}

func TestBulk(t *testing.T) {
	c := newTestSource(foldBundle(t, 99), 99)
	url := serve(t, c, Options{})
	got := request(t, "POST", url+bulkPath, `{"context":{"tier":"gold"}}`)
	var bulk struct {
		Flags []struct {
			Key, Reason, Variant, ErrorCode string
			Value                           any
		}
		EventStreams []struct {
			Type     string
			Endpoint struct{ Origin, RequestURI string }
		}
	}
	if err := json.Unmarshal([]byte(got.body), &bulk); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, f := range bulk.Flags {
		keys = append(keys, f.Key)
		if (f.ErrorCode == "GENERAL") != (f.Key == "bad") {
			t.Errorf("%s: error %q", f.Key, f.ErrorCode)
		}
	}
	// not secret (R45)
	if want := "bad cell gated none off page release rule static zz spaces"; strings.Join(keys, " ") != want {
		t.Errorf("flags %s, want %s", keys, want)
	}
	if len(bulk.EventStreams) != 1 || bulk.EventStreams[0].Type != "sse" ||
		bulk.EventStreams[0].Endpoint.RequestURI != eventsPath {
		t.Errorf("streams %+v", bulk.EventStreams)
	}

	tag := got.header.Get("ETag")
	bare := strings.Trim(tag, `"`)
	for header, status := range map[string]int{
		tag: 304, bare: 304, "W/" + tag: 304, "W/" + bare: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200,
		bare[:31]: 200,
	} {
		again := request(t, "POST", url+bulkPath, `{"context":{"tier":"gold"}}`, "If-None-Match", header)
		if again.status != status || again.header.Get("ETag") != tag || (again.body == "") != (status == 304) {
			t.Errorf("If-None-Match %s: %d with ETag %s and %d bytes", header, again.status, again.header.Get("ETag"),
				len(again.body))
		}
	}
	if other := request(t, "POST", url+bulkPath, `{"context":{"tier":"silver"}}`, "If-None-Match",
		tag); other.status != 200 {
		t.Errorf("another caller's answers: %d", other.status)
	}
	c.setFlags(foldBundle(t, 100), 100) // only the time has come
	if later := request(t, "POST", url+bulkPath, `{"context":{"tier":"gold"}}`, "If-None-Match",
		tag); later.status != 200 || !strings.Contains(later.body, `"key":"gated","reason":"STATIC","variant":"on"`) {
		t.Errorf("at its time: %d %s", later.status, later.body)
	}
}

// TestClaimsChangeNothing checks fault 62: a body that claims another release, cell or feature (R36).
func TestClaimsChangeNothing(t *testing.T) {
	lacking := acmeFacts()
	lacking.Features = nil
	url := serve(t, newTestSource(compile(t, testBundle()).Fold(noOrders(), lacking, 500), 500), Options{})
	claim := `{"context":{"targetingKey":"ann","release":"9.9.9","cell":"beta","features":["f"],"channel":"staging","$flagd":{"timestamp":1}}}`
	honest := request(t, "POST", url+bulkPath, `{"context":{"targetingKey":"ann"}}`)
	claimed := request(t, "POST", url+bulkPath, claim)
	if honest.body != claimed.body {
		t.Errorf("claims change answers:\n%s\n%s", honest.body, claimed.body)
	}
	for key, variant := range map[string]string{"gated": "off", "release": "old", "cell": "theirs"} {
		if got := request(t, "POST", url+flagPath+key, claim); !strings.Contains(got.body,
			fmt.Sprintf(`"variant":%q`, variant)) {
			t.Errorf("%s: %s", key, got.body)
		}
	}
}

func TestDocument(t *testing.T) {
	c := newTestSource(foldBundle(t, 100), 100)
	url := serve(t, c, Options{})
	got := request(t, "GET", url+flagsPath, "")
	var set struct {
		Flags map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(got.body), &set); err != nil || got.status != 200 || len(set.Flags) != 10 {
		t.Errorf("%d, %d flags, %v", got.status, len(set.Flags), err)
	}
	tag := got.header.Get("ETag")
	for _, test := range []struct {
		name, value string
		status      int
	}{
		{"If-None-Match", tag, 304}, {"If-None-Match", strings.Trim(tag, `"`), 304}, {"If-None-Match", `"x"`, 200},
		{"If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT", 200}, // times of changes are not unique
	} {
		if again := request(t, "GET", url+flagsPath, "", test.name, test.value); again.status != test.status {
			t.Errorf("%s: %s: %d", test.name, test.value, again.status)
		}
	}
	c.setFlags(foldBundle(t, 150), 150) // folded again, and nothing is new
	if again := request(t, "GET", url+flagsPath, "", "If-None-Match", tag); again.status != 304 {
		t.Errorf("the same flags: %d", again.status)
	}
	c.setFlags(foldBundle(t, 200), 200)
	if again := request(t, "GET", url+flagsPath, "", "If-None-Match", tag); again.status != 200 ||
		!strings.Contains(again.body, `"secret"`) {
		t.Errorf("after the embargo: %d", again.status)
	}
}

func TestBeforeThereAreFlags(t *testing.T) {
	url := serve(t, newTestSource(nil, 0), Options{})
	for _, r := range [][2]string{{"POST", flagPath + "static"}, {"POST", bulkPath}, {"GET", flagsPath}} {
		if got := request(t, r[0], url+r[1], ""); got.status != 503 || got.header.Get("Retry-After") != "1" ||
			!strings.Contains(got.body, "errorDetails") {
			t.Errorf("%s: %d %s", r[1], got.status, got.body)
		}
	}
}

// TestPanicsAreAnswered checks that a panic yields a 500 with OFREP's body, and the agent goes on.
func TestPanicsAreAnswered(t *testing.T) {
	url := serve(t, panickingSource{}, Options{})
	if got := request(t, "POST", url+bulkPath, ""); got.status != 500 || !strings.Contains(got.body, "errorDetails") ||
		strings.Contains(got.body, "secret cause") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
