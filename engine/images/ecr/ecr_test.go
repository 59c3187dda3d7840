package ecr_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/images/ecr"
	"github.com/sluice-cd/sluice/engine/images/ecr/ecrtest"
)

// useAWS has AWS's environment name a server and the one who may ask it.
func useAWS(t *testing.T, address string) {
	t.Helper()
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": ecrtest.Key,
		"AWS_SECRET_ACCESS_KEY": ecrtest.Secret, "AWS_SESSION_TOKEN": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "",
		"AWS_REGION": "us-east-1", "AWS_CA_BUNDLE": "", "HTTP_PROXY": ""} {
		t.Setenv(name, value)
	}
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	for host, storage := range map[string]string{
		ecrtest.Host: "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":      "prod-cn-north-1-starport-layer-bucket.s3.cn-north-1.amazonaws.com.cn",
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "prod-us-gov-west-1-starport-layer-bucket.s3.us-gov-west-1.amazonaws.com",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil":  "",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn":    "",
		"123456789012.dkr.ecr.evil/x?.amazonaws.com":            "",
		"12345678901.dkr.ecr.eu-central-1.amazonaws.com":        "",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com:443":   "",
		"123456789012.dkr.ecr..amazonaws.com":                   "",
		"x.123456789012.dkr.ecr.eu-central-1.amazonaws.com":     "",
		"public.ecr.aws":   "",
		"registry.example": "",
	} {
		r, ok := ecr.ParseHost(host)
		if ok != (storage != "") || ok && r.Storage() != storage {
			t.Errorf("%s: %t, %s", host, ok, r.Storage())
		}
	}
}

// A token comes by a signed request to the registry's own region, whatever this machine's is.
func TestToken(t *testing.T) {
	made := new(ecrtest.ECR)
	server := httptest.NewServer(made)
	defer server.Close()
	useAWS(t, server.URL)
	r, _ := ecr.ParseHost(ecrtest.Host)
	token, err := r.Token(t.Context())
	if err != nil || !made.Admits(token.User, token.Password) {
		t.Fatalf("%+v, %v", token, err)
	}
	if token.Life < 11*time.Hour || token.Life > 12*time.Hour {
		t.Errorf("it is valid for %s", token.Life)
	}
	other, _ := ecr.ParseHost(strings.Replace(ecrtest.Host, ecrtest.Region, "eu-west-1", 1))
	if _, err := other.Token(t.Context()); err == nil {
		t.Error("a request that is signed for another region was answered")
	}
}

// What is wrong is said with what to do, and never in AWS's words, which name roles.
func TestNoToken(t *testing.T) {
	made := new(ecrtest.ECR)
	server := httptest.NewServer(made)
	defer server.Close()
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	r, _ := ecr.ParseHost(ecrtest.Host)
	for name, c := range map[string]struct {
		code   string
		answer http.Handler
		secret string
		want   string
	}{
		"denied":          {code: "AccessDeniedException", want: "allow it in its role"},
		"throttled":       {code: "ThrottlingException", want: "AWS limits requests"},
		"a wrong secret":  {secret: "other", want: "(InvalidSignatureException): check its role and the machine's clock"},
		"no credentials":  {secret: "none", want: "no credentials for AWS"},
		"something else":  {code: "RepositoryNotFoundException", want: "refuses ecr:GetAuthorizationToken (RepositoryNotFound"},
		"no JSON":         {answer: answer("<html>"), want: "api.ecr.eu-central-1.amazonaws.com"},
		"no token":        {answer: answer(`{"authorizationData":[]}`), want: "holds no token"},
		"no base64":       {answer: answer(`{"authorizationData":[{"authorizationToken":"%"}]}`), want: "holds no token"},
		"no password":     {answer: answer(`{"authorizationData":[{"authorizationToken":"QVdTOg=="}]}`), want: "holds no token"},
		"a made-up time":  {answer: answer(`{"authorizationData":[{"authorizationToken":"QVdTOmE=","expiresAt":1e300}]}`), want: "holds no token"},
		"too long a body": {answer: answer(strings.Repeat(" ", 9<<20)), want: "can't be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			useAWS(t, server.URL)
			made.Refuse(c.code)
			if c.answer != nil {
				other := httptest.NewServer(c.answer)
				defer other.Close()
				t.Setenv("AWS_ENDPOINT_URL", other.URL)
			}
			switch c.secret {
			case "none":
				t.Setenv("AWS_ACCESS_KEY_ID", "")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			case "other":
				t.Setenv("AWS_SECRET_ACCESS_KEY", c.secret)
			}
			_, err := r.Token(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "arn:") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
