package stack

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// What AWS's endpoint answers is bounded, and an answer that is none of AWS's is named as such.
func TestAnswersOfStrangers(t *testing.T) {
	for want, answer := range map[string]http.HandlerFunc{
		"is too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<a>" + strings.Repeat("x", 8<<20) + "</a>"))
		},
		"AWS refuses cloudformation:DescribeStacks (HTTP 403)": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>a proxy's page", http.StatusForbidden)
		},
		"AWS refuses cloudformation:DescribeStacks (HTTP 502)": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<ErrorResponse><Error><Code>arn:aws:sts::1:x</Code></Error></ErrorResponse>"))
		},
		"AWS can't be asked for cloudformation:DescribeStacks": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<unfinished"))
		},
		"AWS's answer to cloudformation:DescribeStacks is empty": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("<DescribeStacksResponse/>"))
		},
	} {
		server := httptest.NewServer(answer)
		for name, value := range map[string]string{"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": "eu-central-1",
			"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": os.DevNull,
			"AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "HTTP_PROXY": ""} {
			t.Setenv(name, value)
		}
		_, err := NewReader(Options{Stacks: []string{"a"}}).Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		server.Close()
	}
}
