package controlplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
)

const (
	hookPath = "/v1/hooks/push"
	maxHook  = 1 << 20 // bytes; a larger push is found by polling
	maxHooks = 64      // that are read at once: anyone may send them, and a signature is known from the whole body only
)

// hooked answers a hook.
type hooked struct {
	Triggered bool   `json:"triggered" doc:"the branch is looked at now"`
	Reason    string `json:"reason,omitempty" doc:"why not"`
}

// push answers POST /v1/hooks/push. The signature is checked over the raw body before anything is parsed.
// A hook only says where to look: sent again, or forged by one who has the secret, it makes the engine look once more.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	if s.opts.HookSecret == "" || s.opts.Pushed == nil {
		problem(w, http.StatusNotFound, "Hooks are not set up: start the server with a hook secret.")
		return
	}
	if !s.hooks.enter() {
		s.metrics.turnedAway("hooks")
		retryAfter(w, 5)
		problem(w, http.StatusServiceUnavailable, "So many hooks are sent at once that one more is turned away: send it again, or let the branch be polled.")
		return
	}
	defer s.hooks.leave()
	body, ok := readBody(w, r, maxHook)
	if !ok {
		return
	}
	if !signed(r.Header, body, s.opts.HookSecret) {
		problem(w, http.StatusUnauthorized, "The signature is missing or wrong: give the git host the same secret as this server.")
		return
	}
	var pushed struct {
		Ref  string `json:"ref"`
		Kind string `json:"object_kind"` // GitLab's, also from its system hooks
	}
	if err := json.Unmarshal(body, &pushed); err != nil {
		problem(w, http.StatusBadRequest, "The body is not the JSON of a push.")
		return
	}
	switch {
	case !isPush(r.Header, pushed.Kind):
		writeJSON(w, http.StatusOK, hooked{Reason: "not a push"})
	case !strings.HasPrefix(pushed.Ref, "refs/heads/"):
		writeJSON(w, http.StatusOK, hooked{Reason: "not a push to a branch"})
	case s.opts.Branch != "" && pushed.Ref != "refs/heads/"+s.opts.Branch:
		writeJSON(w, http.StatusOK, hooked{Reason: "not a push to " + s.opts.Branch})
	default:
		s.opts.Pushed()
		writeJSON(w, http.StatusAccepted, hooked{Triggered: true})
	}
}

// signed tells whether whoever sent the body has the secret. The first header that is there decides.
func signed(h http.Header, body []byte, secret string) bool {
	for _, name := range []string{"X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"} {
		given := h.Get(name)
		if given == "" {
			continue
		}
		if name == "X-Hub-Signature-256" {
			var ok bool
			if given, ok = strings.CutPrefix(given, "sha256="); !ok {
				return false
			}
		}
		mac, err := hex.DecodeString(given)
		if err != nil {
			return false
		}
		want := hmac.New(sha256.New, []byte(secret))
		want.Write(body)
		return hmac.Equal(mac, want.Sum(nil))
	}
	// GitLab sends the secret itself. Hashed first, so that its length does not show in the time either.
	given, want := sha256.Sum256([]byte(h.Get("X-Gitlab-Token"))), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

func isPush(h http.Header, kind string) bool {
	for _, name := range []string{"X-Forgejo-Event", "X-Gitea-Event", "X-GitHub-Event"} {
		if event := h.Get(name); event != "" {
			return event == "push"
		}
	}
	return kind == "push"
}
