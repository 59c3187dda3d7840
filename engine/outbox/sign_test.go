package outbox

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The example that libraries of Standard Webhooks are tested with.
func TestSignatureIsTheStandards(t *testing.T) {
	t.Parallel()
	keys, err := parseSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := signature(keys[0], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// While a secret is replaced, messages are signed with both; without a valid secret nothing is signed.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const one, two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"
	for secrets, signatures := range map[string]int{one: 1, one + "\n": 1, two + " " + one: 2, "": 0, " ": 0,
		"whsec_": 0, "whsec_c2hvcnQ=": 0, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": 0, one + " other": 0, "whsec_" +
			strings.Repeat("A", 88): 0} {
		h := http.Header{}
		err := sign(h, "e", time.Unix(1, 0), nil, secrets)
		if got := len(strings.Fields(h.Get("Webhook-Signature"))); got != signatures ||
			(err == nil) != (signatures > 0) || (CheckSecret(secrets) == nil) != (err == nil) {
			t.Errorf("%q: %d signatures, %v", secrets, got, err)
		}
		if err != nil && secrets != "" && len(secrets) > 8 && strings.Contains(err.Error(), secrets) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

// An unknown host is distinguished from one that does not answer.
func TestUnknownHost(t *testing.T) {
	t.Parallel()
	err := error(&url.Error{Op: "Post", URL: "https://chat.invalid/secret",
		Err: &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "chat.invalid", IsNotFound: true}}})
	if got := explainError(stripURL(err), time.Second); got != "its host is unknown" {
		t.Error(got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 12:05:00 GMT": 5 * time.Minute, "Tue, 24 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// Attempts come ever more rarely, never all at once, and at least once an hour.
func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempts := range 100 {
		whole := min(5*time.Second<<min(attempts, 20), maxRetryDelay)
		seen := map[time.Duration]bool{}
		for range 50 {
			d := retryDelay(5*time.Second, attempts)
			if d < whole/2 || d > whole {
				t.Fatalf("after %d attempts: %v, want %v to %v", attempts, d, whole/2, whole)
			}
			seen[d] = true
		}
		if len(seen) < 10 {
			t.Errorf("after %d attempts: always the same %d times", attempts, len(seen))
		}
	}
}
