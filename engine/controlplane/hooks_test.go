package controlplane_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
)

func signBody(body, secret string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(body))
	return hex.EncodeToString(h.Sum(nil))
}

func TestHooks(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Branch = "main" })
	const toMain, toOther = `{"ref":"refs/heads/main"}`, `{"ref":"refs/heads/other"}`
	const gitlab = `{"object_kind":"push","ref":"refs/heads/main"}`
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		pushes  int
	}{
		"GitHub": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + signBody(toMain, "secret")}, 202, 1},
		"GitHub, another branch": {toOther,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + signBody(toOther, "secret")}, 200, 0},
		"GitHub, a tag": {`{"ref":"refs/tags/main"}`,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256",
				"sha256=" + signBody(`{"ref":"refs/tags/main"}`, "secret")}, 200, 0},
		"GitHub, ping": {`{"zen":"x"}`,
			[]string{"X-GitHub-Event", "ping", "X-Hub-Signature-256", "sha256=" + signBody(`{"zen":"x"}`, "secret")},
			200, 0},
		"GitHub, wrong secret": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + signBody(toMain, "guess")}, 401, 0},
		"GitHub, another body": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + signBody(toOther, "secret")}, 401, 0},
		"GitHub, no prefix": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", signBody(toMain, "secret")}, 401, 0},
		"GitHub, not hex": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=zz"}, 401, 0},
		"GitHub, cut": {toMain,
			[]string{"X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + signBody(toMain, "secret")[:32]},
			401, 0},
		"GitHub, SHA-1 only": {toMain, []string{"X-GitHub-Event", "push", "X-Hub-Signature", "sha1=00"}, 401, 0},
		"Gitea": {toMain,
			[]string{"X-Gitea-Event", "push", "X-GitHub-Event", "push", "X-Gitea-Signature",
				signBody(toMain, "secret")}, 202, 1},
		"Gitea, wrong": {toMain,
			[]string{"X-Gitea-Event", "push", "X-Gitea-Signature", signBody(toMain, "guess")}, 401, 0},
		"Forgejo": {toMain,
			[]string{"X-Forgejo-Event", "push", "X-Gitea-Event", "push", "X-Forgejo-Signature",
				signBody(toMain, "secret")}, 202, 1},
		"Forgejo, wrong beside right": {toMain,
			[]string{"X-Forgejo-Event", "push", "X-Forgejo-Signature", signBody(toMain, "guess"), "X-Gitea-Signature",
				signBody(toMain, "secret")}, 401, 0},
		"Forgejo, no push": {toMain,
			[]string{"X-Forgejo-Event", "create", "X-Forgejo-Signature", signBody(toMain, "secret")}, 200, 0},
		"GitLab":              {gitlab, []string{"X-Gitlab-Event", "Push Hook", "X-Gitlab-Token", "secret"}, 202, 1},
		"GitLab, system hook": {gitlab, []string{"X-Gitlab-Event", "System Hook", "X-Gitlab-Token", "secret"}, 202, 1},
		"GitLab, a tag": {`{"object_kind":"tag_push","ref":"refs/tags/v1"}`,
			[]string{"X-Gitlab-Event", "Tag Push Hook", "X-Gitlab-Token", "secret"}, 200, 0},
		"GitLab, wrong": {gitlab,
			[]string{"X-Gitlab-Event", "Push Hook", "X-Gitlab-Token", "secret2"}, 401, 0},
		"unsigned":                    {toMain, nil, 401, 0},
		"unsigned, and not even JSON": {"{", nil, 401, 0},
		"signed, and not JSON":        {"{", []string{"X-Gitea-Signature", signBody("{", "secret")}, 400, 0},
		"signed, but a form without payload": {toMain,
			[]string{"Content-Type", "application/x-www-form-urlencoded", "X-Gitea-Signature",
				signBody(toMain, "secret")}, 400, 0},
		"neither JSON nor a form": {toMain,
			[]string{"Content-Type", "text/plain", "X-Gitea-Signature", signBody(toMain, "secret")}, 415, 0},
		"larger than 1 MiB":            {strings.Repeat(" ", 1<<20+1), []string{"X-Gitlab-Token", "secret"}, 413, 0},
		"through a tunnel's host name": {gitlab, []string{"X-Gitlab-Token", "secret", "Host", "hooks.example"}, 202, 1},
	} {
		s.pushes = 0
		for range 2 { // a repeated hook does no harm
			w, body := s.request(t, "POST", "/v1/hooks/push", c.body, c.headers...)
			if w.StatusCode != c.status {
				t.Errorf("%s: %s, not %d: %s", name, w.Status, c.status, body)
			}
			if c.status >= 400 {
				wantProblem(t, w, body, c.status, "")
			}
		}
		if s.pushes != 2*c.pushes {
			t.Errorf("%s: 2 hooks triggered %d polls", name, s.pushes)
		}
	}
}

// A stranger, who has neither a signature nor the secret, is refused before its body takes a place.
func TestHooksOfStrangersAreNotRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for header, status := range map[string]int{
		"A: b": 401, "X-Gitlab-Token: guess": 401, "X-Hub-Signature-256: sha256=00": 401,
		"X-Gitlab-Token: secret": 100, "X-Hub-Signature-256: sha256=" + signBody("another", "secret"): 100,
	} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /v1/hooks/push HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Content-Length: 9\r\nExpect: 100-continue\r\n%s\r\n\r\n", header)
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || w.StatusCode != status {
			t.Errorf("%s: %v (%v), not %d", header, w, err, status)
		}
		c.Close()
	}
}

// The hooks of hosts that have fields, events or signatures of their own.
func TestHooksOfOtherHosts(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Branch = "main" })
	signed := func(event, body string, more ...string) []string {
		return append([]string{"X-Event-Key", event, "X-Hub-Signature", "sha256=" + signBody(body, "secret")}, more...)
	}
	const cloud = `{"push":{"changes":[{"new":null,"old":{"type":"tag","name":"main"}},
		{"new":{"type":"branch","name":"main"},"old":null}]}}`
	const cloudDeleted = `{"push":{"changes":[{"new":null,"old":{"type":"branch","name":"main"}}]}}`
	const cloudTag = `{"push":{"changes":[{"new":{"type":"tag","name":"main"}}]}}`
	const dataCenter = `{"eventKey":"repo:refs_changed","changes":[{"ref":{"id":"refs/heads/x"}},
		{"ref":{"id":"refs/heads/main","displayId":"main","type":"BRANCH"},"type":"UPDATE"}]}`
	const pull = `{"pullrequest":{"id":1},"changes":{}}`
	const azure = `{"eventType":"git.push","resource":{"refUpdates":[{"name":"refs/heads/main"}]}}`
	const azureOther = `{"eventType":"git.push","resource":{"refUpdates":[{"name":"refs/heads/x"}]}}`
	basic := func(password string) []string {
		return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("sluice:"+password))}
	}
	form := "payload=" + url.QueryEscape(`{"ref":"refs/heads/main","repository":{"name":"a+b & c"}}`)
	asForm := func(secret string) []string {
		return []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8", "X-GitHub-Event", "push",
			"X-Hub-Signature", "sha1=00", "X-Hub-Signature-256", "sha256=" + signBody(form, secret)}
	}
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
	}{
		"Bitbucket Cloud":                      {cloud, signed("repo:push", cloud), 202},
		"Bitbucket Cloud, branch deleted":      {cloudDeleted, signed("repo:push", cloudDeleted), 202},
		"Bitbucket Cloud, a tag":               {cloudTag, signed("repo:push", cloudTag), 200},
		"Bitbucket Cloud, a pull request":      {pull, signed("pullrequest:created", pull), 200},
		"Bitbucket Cloud, odd fields":          {`{"push":1}`, signed("repo:push", `{"push":1}`), 400},
		"Bitbucket Cloud, signed another body": {cloud, signed("repo:push", cloudTag), 401},
		"Bitbucket Cloud, unsigned":            {cloud, []string{"X-Event-Key", "repo:push"}, 401},
		"Bitbucket Data Center":                {dataCenter, signed("repo:refs_changed", dataCenter), 202},
		"Bitbucket Data Center, test":          {`{"test":true}`, signed("diagnostics:ping", `{"test":true}`), 200},
		"Azure DevOps":                         {azure, basic("secret"), 202},
		"Azure DevOps, another branch":         {azureOther, basic("secret"), 200},
		"Azure DevOps, wrong password":         {azure, basic("guess"), 401},
		"Azure DevOps, no password":            {azure, nil, 401},
		"GitHub, as a form":                    {form, asForm("secret"), 202},
		"GitHub, as a form, wrong":             {form, asForm("guess"), 401},
	} {
		s.pushes = 0
		w, body := s.request(t, "POST", "/v1/hooks/push", c.body, c.headers...)
		if w.StatusCode != c.status || (c.status == 202) != (s.pushes == 1) {
			t.Errorf("%s: %s, not %d, and %d polls: %s", name, w.Status, c.status, s.pushes, body)
		}
	}
}

func TestHooksNotSetUp(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*controlplane.Options){
		"no secret":   func(o *controlplane.Options) { o.HookSecret = "" },
		"no callback": func(o *controlplane.Options) { o.OnPush = nil },
	} {
		s := newSite(t, store.Options{}, change)
		w, body := s.request(t, "POST", "/v1/hooks/push", `{"object_kind":"push","ref":"refs/heads/main"}`,
			"X-Gitlab-Token", "")
		t.Log(name)
		wantProblem(t, w, body, 404, "hook secret")
	}
}

// Without a configured branch, a push to any branch triggers a poll.
func TestHookOfAnyBranch(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	for ref, want := range map[string]int{"refs/heads/trunk": 202, "refs/heads/main": 202, "refs/tags/v1": 200,
		"": 200} {
		if w, body := s.request(t, "POST", "/v1/hooks/push", `{"object_kind":"push","ref":"`+ref+`"}`,
			"X-Gitlab-Token", "secret"); w.StatusCode != want {
			t.Errorf("%s: %s, not %d: %s", ref, w.Status, want, body)
		}
	}
}

func TestHookBranch(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Branch = "release/next" })
	for ref, want := range map[string]int{"refs/heads/main": 200, "refs/heads/release/next": 202} {
		if w, body := s.request(t, "POST", "/v1/hooks/push", `{"object_kind":"push","ref":"`+ref+`"}`,
			"X-Gitlab-Token", "secret"); w.StatusCode != want {
			t.Errorf("%s: %s, not %d: %s", ref, w.Status, want, body)
		}
	}
}
