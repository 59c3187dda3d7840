package ofrep

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/flags"
)

func noOrders() flags.Orders { return flags.Orders{} }

// panickingSource is a faulty source.
type panickingSource struct{}

func (panickingSource) Current() (*flags.Folded, int64) { panic("secret cause") }
func (panickingSource) Changed() <-chan struct{}        { return nil }

// TestBrowsersSeeWhatIsForThem checks R45.
func TestBrowsersSeeWhatIsForThem(t *testing.T) {
	url := serve(t, newTestSource(foldBundle(t, 100), 100), Options{Origins: []string{"https://console.example.com"}})
	for _, header := range [][]string{
		{"Origin", "https://console.example.com"}, {"Origin", "https://elsewhere.example.com"}, {"Origin", "null"},
		{"Sec-Fetch-Site", "same-origin"},
	} {
		bulk := request(t, "POST", url+bulkPath, "", header...)
		if bulk.status != 200 || !strings.HasPrefix(bulk.body, `{"flags":[{"key":"page"`) ||
			strings.Count(bulk.body, `"key"`) != 1 {
			t.Errorf("%s sees %s", header, bulk.body)
		}
		for key, status := range map[string]int{"page": 200, "static": 404, "gated": 404, "unknown": 404} {
			got := request(t, "POST", url+flagPath+key, "", header...)
			if got.status != status {
				t.Errorf("%s asks for %s: %d %s", header, key, got.status, got.body)
			}
			if status == 404 &&
				strings.Replace(got.body, key, "",
					1) != strings.Replace(request(t, "POST", url+flagPath+"unknown", "", header...).body,
					"unknown", "", 1) {
				t.Errorf("%s learns that there is %s: %s", header, key, got.body)
			}
		}
		if got := request(t, "GET", url+flagsPath, "", header...); got.status != 403 {
			t.Errorf("%s sees rules: %d", header, got.status)
		}
	}
}

func TestOrigins(t *testing.T) {
	const listed, other = "https://console.example.com", "https://elsewhere.example.com"
	open := serve(t, newTestSource(foldBundle(t, 100), 100), Options{Origins: []string{listed}})
	closed := serve(t, newTestSource(foldBundle(t, 100), 100), Options{})
	for _, test := range []struct{ url, origin, allowed string }{{open, listed, listed}, {open, other, ""},
		{closed, listed, ""}} {
		got := request(t, "POST", test.url+bulkPath, "", "Origin", test.origin)
		if got.header.Get("Access-Control-Allow-Origin") != test.allowed ||
			got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s is allowed %q", test.origin, got.header.Get("Access-Control-Allow-Origin"))
		}
		preflight := request(t, "OPTIONS", test.url+bulkPath, "", "Origin", test.origin,
			"Access-Control-Request-Method", "POST")
		if (preflight.status == 204) != (test.allowed != "") ||
			preflight.header.Get("Access-Control-Allow-Origin") != test.allowed {
			t.Errorf("%s asks first, and gets %d %v", test.origin, preflight.status, preflight.header)
		}
	}
}

// A page whose name was pointed at this machine sends its own name.
func TestOtherNamesAreRefused(t *testing.T) {
	c := newTestSource(foldBundle(t, 100), 100)
	url := serve(t, c, Options{})
	for host, status := range map[string]int{
		"localhost": 200, "LocalHost:8090": 200, "localhost.:1": 200, "127.0.0.1": 200, "127.8.8.8:1": 200,
		"[::1]:80": 200, "[::1]": 200,
		"evil.example.com": 403, "localhost.example.com": 403, "127.0.0.1.example.com:80": 403, "10.0.0.1": 403,
		"0.0.0.0": 403, "[::]": 403,
	} {
		for _, path := range []string{flagPath + "static", bulkPath} {
			if got := request(t, "POST", url+path, "", "Host", host); got.status != status {
				t.Errorf("%s: %d", host, got.status)
			}
		}
	}
	if got := requestBy(t, overSocket(t, c), http.MethodPost, "http://any.name"+bulkPath, ""); got.status != 200 {
		t.Errorf("over a socket: %d", got.status)
	}
}
