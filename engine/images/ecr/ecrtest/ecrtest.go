// Package ecrtest is a made-up ECR for tests: the one request for a token, over HTTP as AWS's own programs make it.
//
// Signatures are checked by AWS's published rules (version 4), without AWS's code. An ECR may be used at once.
package ecrtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The one who may ask, and where.
const (
	Key    = "AKIDEXAMPLE"
	Secret = "wJalrXUtnFEMI/K7MDENG" //nolint:gosec // made up, after AWS's own examples
	Region = "eu-central-1"
	Host   = "123456789012.dkr.ecr." + Region + ".amazonaws.com"
)

const maxSkew = 5 * time.Minute

// ECR makes tokens. The zero value is ready.
type ECR struct {
	mu    sync.Mutex
	life  time.Duration
	code  string
	given int
}

// SetLife sets for how long tokens are valid; zero: for 12 hours, as ECR's are.
func (e *ECR) SetLife(life time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life = life
}

// Refuse has all requests refused with a code; empty: none is.
func (e *ECR) Refuse(code string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.code = code
}

// Given returns how many tokens were given.
func (e *ECR) Given() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.given
}

// Admits reports whether a registry lets somebody in: with the newest token.
func (e *ECR) Admits(user, password string) bool {
	return user == "AWS" && password == fmt.Sprintf("token-%d", e.Given())
}

// ServeHTTP answers one request.
func (e *ECR) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	code := ""
	switch {
	case err != nil:
		code = "SerializationException"
	case r.Header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken":
		code = "UnknownOperationException"
	case r.Method != http.MethodPost || r.URL.Path != "/" || !json.Valid(body):
		code = "SerializationException"
	default:
		code = checkSignature(r, body, time.Now())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if code == "" {
		code = e.code
	}
	if code != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.ecr#" + code,
			"message": "User: arn:aws:sts::123456789012:assumed-role/control-plane/session may not"})
		return
	}
	e.given++
	life := e.life
	if life == 0 {
		life = 12 * time.Hour
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"authorizationData": []any{map[string]any{
		"authorizationToken": base64.StdEncoding.EncodeToString(fmt.Append(nil, "AWS:token-", e.given)),
		"expiresAt":          float64(time.Now().Add(life).UnixMilli()) / 1000,
		"proxyEndpoint":      "https://" + Host,
	}}})
}

// checkSignature returns AWS's code of what is wrong with a signature; empty: it is right.
func checkSignature(r *http.Request, body []byte, now time.Time) (code string) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if !ok || err != nil {
		return "MissingAuthenticationTokenException"
	}
	scope := date[:8] + "/" + Region + "/ecr/aws4_request"
	key, isScope := strings.CutSuffix(fields["Credential"], "/"+scope)
	switch {
	case key != Key:
		return "UnrecognizedClientException"
	case !isScope, now.Sub(at).Abs() > maxSkew:
		return "InvalidSignatureException"
	}
	var headers strings.Builder
	signed := map[string]bool{}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		signed[name] = true
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	if !signed["host"] || !signed["x-amz-date"] || !signed["x-amz-target"] {
		return "IncompleteSignature"
	}
	request := strings.Join([]string{r.Method, "/", "", headers.String(), fields["SignedHeaders"], hexSum(body)}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hexSum([]byte(request))}, "\n")
	sum := []byte("AWS4" + Secret)
	for _, part := range append(strings.Split(scope, "/"), text) {
		mac := hmac.New(sha256.New, sum)
		mac.Write([]byte(part))
		sum = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(sum)), []byte(fields["Signature"])) {
		return "InvalidSignatureException"
	}
	return ""
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
