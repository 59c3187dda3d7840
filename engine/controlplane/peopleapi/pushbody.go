package peopleapi

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

const formType = "application/x-www-form-urlencoded"

// pushBody is the body of a hook, as far as it says what the hook tells of. Each git host has fields of its own, and
// the same names mean other things in hooks that tell of something else.
type pushBody struct {
	Ref   string `json:"ref"`         // GitHub, GitLab, Gitea, Forgejo
	Kind  string `json:"object_kind"` // GitLab, from system hooks too
	Event string `json:"eventType"`   // Azure DevOps

	key  string // Bitbucket's name of the event; empty: another host
	text []byte
}

// parsePush reads a hook's body: JSON, or a form with the JSON in the field payload, as GitHub and Gitea can send it.
func parsePush(h http.Header, body []byte) (p pushBody, err error) {
	if kind, _, _ := mime.ParseMediaType(h.Get("Content-Type")); kind == formType {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return p, err
		}
		body = []byte(form.Get("payload"))
	}
	p.key, p.text = h.Get("X-Event-Key"), body
	return p, json.Unmarshal(body, &p)
}

// isPush reports whether the hook tells of a push. The first header that names an event decides.
func (p pushBody) isPush(h http.Header) bool {
	for _, name := range []string{"X-Forgejo-Event", "X-Gitea-Event", "X-GitHub-Event"} {
		if event := h.Get(name); event != "" {
			return event == "push"
		}
	}
	if p.key != "" { // Bitbucket Cloud, and Data Center
		return p.key == "repo:push" || p.key == "repo:refs_changed"
	}
	return p.Kind == "push" || p.Event == "git.push"
}

// branches returns the names of the branches that a push moved.
func (p pushBody) branches() (names []string, err error) {
	refs := []string{p.Ref}
	switch {
	case p.key == "repo:push":
		refs, err = p.bitbucketCloudRefs()
	case p.key == "repo:refs_changed":
		var pushed struct {
			Changes []struct {
				Ref struct{ ID string }
			}
		}
		err = json.Unmarshal(p.text, &pushed)
		for _, c := range pushed.Changes {
			refs = append(refs, c.Ref.ID)
		}
	case p.Event == "git.push":
		var pushed struct {
			Resource struct {
				RefUpdates []struct{ Name string }
			}
		}
		err = json.Unmarshal(p.text, &pushed)
		for _, u := range pushed.Resource.RefUpdates {
			refs = append(refs, u.Name)
		}
	}
	for _, ref := range refs {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

func (p pushBody) bitbucketCloudRefs() (refs []string, err error) {
	type ref struct{ Type, Name string }
	var pushed struct {
		Push struct {
			Changes []struct{ New, Old *ref } // nil: deleted, or created
		}
	}
	err = json.Unmarshal(p.text, &pushed)
	for _, c := range pushed.Push.Changes {
		for _, r := range []*ref{c.New, c.Old} {
			if r != nil && r.Type == "branch" {
				refs = append(refs, "refs/heads/"+r.Name)
			}
		}
	}
	return refs, err
}
