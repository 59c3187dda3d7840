package peopleapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
)

const (
	HookPath = "/v1/hooks/push"
	maxHook  = 1 << 20         // bytes; polling finds a larger push
	maxHooks = 64              // bodies read at once: anyone may send one, and the signature covers the whole body
	hookTime = 5 * time.Second // for a body: git hosts send theirs at once
)

// hooked is the response to a hook.
type hooked struct {
	Triggered bool   `json:"triggered" doc:"the branch is polled now"`
	Reason    string `json:"reason,omitempty" doc:"why nothing was triggered"`
}

// hookHandlers receives push hooks of git hosts.
type hookHandlers struct {
	secret   string // signing secret shared with the git host; empty: hooks are off
	branch   string // empty: a push to any branch counts
	onPush   func() // triggers a poll; nil: hooks are off
	inFlight limit.InFlight
	metrics  *metrics.Metrics
}

// servePush answers POST /v1/hooks/push. It reads no body without a signature or the secret, and verifies the signature
// over the raw body before it parses the body. A hook only triggers a poll, so that a repeated or forged one does no
// harm.
func (h *hookHandlers) servePush(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	if h.secret == "" || h.onPush == nil {
		api.WriteProblem(w, http.StatusNotFound, "Hooks are not set up: start the server with a hook secret.")
		return
	}
	mac, signed := signatureOf(r.Header)
	if signed && len(mac) != sha256.Size || !signed && !hasSecret(r.Header, h.secret) {
		writeUnsigned(w)
		return
	}
	if !h.inFlight.Acquire() {
		h.metrics.CountShed("hooks")
		api.SetRetryAfter(w, 5)
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"Too many hooks at once: send it again, or wait for the next poll of the branch.")
		return
	}
	defer h.inFlight.Release()
	// A ResponseWriter without deadlines, such as a test's recorder, returns an error here.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(hookTime))
	body, ok := api.ReadBody(w, r, maxHook, formType) // a page of another site can't sign its form
	if !ok {
		return
	}
	if signed && !isSigned(body, mac, h.secret) {
		writeUnsigned(w)
		return
	}
	pushed, err := parsePush(r.Header, body)
	isPush, branches := err == nil && pushed.isPush(r.Header), []string(nil)
	if isPush {
		branches, err = pushed.branches()
	}
	if err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The body is not the JSON of a push hook.")
		return
	}
	switch {
	case !isPush:
		api.WriteJSON(w, http.StatusOK, hooked{Reason: "not a push"})
	case len(branches) == 0:
		api.WriteJSON(w, http.StatusOK, hooked{Reason: "not a push to a branch"})
	case h.branch != "" && !slices.Contains(branches, h.branch):
		api.WriteJSON(w, http.StatusOK, hooked{Reason: "not a push to " + h.branch})
	default:
		h.onPush()
		api.WriteJSON(w, http.StatusAccepted, hooked{Triggered: true})
	}
}

func writeUnsigned(w http.ResponseWriter) {
	api.WriteProblem(w, http.StatusUnauthorized,
		"The signature is missing or wrong: configure the git host with this server's secret.")
}

// signatureOf returns the signature of a body, and reports whether a header has one. The first such header decides. A
// malformed one is nil.
func signatureOf(h http.Header) (mac []byte, signed bool) {
	for _, name := range []string{"X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256",
		"X-Hub-Signature"} { // the last one is Bitbucket's; GitHub's, with SHA-1, counts for nothing
		signature := h.Get(name)
		if signature == "" {
			continue
		}
		if strings.HasPrefix(name, "X-Hub-") {
			var ok bool
			if signature, ok = strings.CutPrefix(signature, "sha256="); !ok {
				return nil, true
			}
		}
		mac, err := hex.DecodeString(signature)
		if err != nil {
			return nil, true
		}
		return mac, true
	}
	return nil, false
}

// isSigned reports whether mac signs the body with the secret.
func isSigned(body, mac []byte, secret string) bool {
	want := hmac.New(sha256.New, []byte(secret))
	want.Write(body)
	return hmac.Equal(mac, want.Sum(nil))
}

// hasSecret reports whether the headers have the secret itself, which GitLab sends so, and Azure DevOps as the password
// of basic authentication. Hashing both hides the length of the secret from timing.
func hasSecret(h http.Header, secret string) bool {
	sent := h.Get("X-Gitlab-Token")
	if _, password, ok := (&http.Request{Header: h}).BasicAuth(); ok && sent == "" {
		sent = password
	}
	signature, want := sha256.Sum256([]byte(sent)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(signature[:], want[:]) == 1
}
