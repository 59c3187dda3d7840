package consoleapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/channels/passkey"
	"github.com/sluice-cd/sluice/engine/actions"
	"github.com/sluice-cd/sluice/engine/actions/desk"
	"github.com/sluice-cd/sluice/engine/console"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/filediff"
	"github.com/sluice-cd/sluice/releases"
)

// Desk proposes and makes the commits of actions: a desk.Desk.
type Desk interface {
	Propose(ctx context.Context, r desk.Request) (edits.Proposal, error)
	Commit(ctx context.Context, r desk.Request, digest string) (edits.Result, edits.Proposal, error)
	Show(ctx context.Context, repository, commit string) (*desk.Commit, error)
}

// Killer kills flags. Kill is durable when it returns; cells get it at once.
type Killer interface {
	Kill(ctx context.Context, o repository.Override) error
}

const (
	maxForms    = 8                // that use a repository at once
	formTime    = 25 * time.Second // for what a form does; less than api.ResponseTimeout
	maxFormBody = 16 << 10         // bytes
	maxShown    = time.Hour        // how old a commit may be when it is confirmed
)

// formHandlers serves the forms of actions, and the commits that they make.
type formHandlers struct {
	views     api.Views
	pages     *pageCache
	auth      *auth.Auth
	desk      Desk   // nil: this control plane commits nothing for people
	killer    Killer // nil: there are no flags
	committer releases.Person
	inFlight  limit.InFlight
}

// routes returns a route for all forms, and one for each action that makes a commit.
func (h *formHandlers) routes() []api.Route {
	name := func(param, what string) *huma.Param {
		return api.RequiredParam(api.Param(param, "path", what, api.TextSchema()))
	}
	all := []api.Route{
		{Method: http.MethodGet, Path: console.ActionBase + "{action}", Audience: api.Viewer, Page: true,
			Handler: h.serveForm, Operation: huma.Operation{OperationID: "consoleForm", Tags: []string{"console"},
				Summary: "The form of an action, and the commit that it would make", Parameters: []*huma.Param{
					name("action", "the action")},
				Responses: map[string]*huma.Response{"200": api.Response("The page", "text/html", api.TextSchema())},
				Errors:    []int{404, 503}}},
		{Method: http.MethodGet, Path: console.CommitBase + "{repository}/{commit}", Audience: api.Viewer, Page: true,
			Handler: h.serveCommit, Operation: huma.Operation{OperationID: "consoleCommit", Tags: []string{"console"},
				Summary: "A commit of a repository's branch", Parameters: []*huma.Param{
					name("repository", "releases or flags"), name("commit", "in full")},
				Responses: map[string]*huma.Response{"200": api.Response("The page", "text/html", api.TextSchema())},
				Errors:    []int{404, 503}}},
	}
	for _, a := range actions.All() {
		if a.CommandOnly() {
			continue
		}
		all = append(all, api.Route{Method: http.MethodPost, Path: console.ActionBase + a.Name,
			Audience: api.Audience(a.Role), Page: true, OfChannel: a.Scope == actions.Channel,
			OfCell: a.Scope == actions.Cell, Operation: huma.Operation{Hidden: true},
			Handler: func(w http.ResponseWriter, r *http.Request, c *api.Caller) { h.serveConfirmed(w, r, c, &a) }})
	}
	return all
}

// request is a form's request as it is read.
type request struct {
	form  console.Form
	model *console.Model
	view  *view.View
	since time.Time // when the commit was shown first
	shown string    // its digest
	// The page's origin, and what a passkey of the caller's signed; nil: nothing.
	origin string
	signed *passkey.Assertion
}

// read reads an action's values from the address. The body has nothing that decides what is done, but what a passkey
// signed. What people do for themselves is read from the body alone, which no link brings: a link could have them add
// somebody else's passkey.
func (h *formHandlers) read(v *view.View, r *http.Request, c *api.Caller, a *actions.Action) request {
	q := request{view: v, model: h.pages.latestModel(v), since: time.Now().UTC().Truncate(time.Second),
		form: console.Form{Action: a}, origin: originOf(r, c)}
	values := r.URL.Query()
	if a.Own {
		values = r.PostForm // nil unless a form was sent
	}
	q.form.Values, q.form.Problems = a.Parse(values)
	if !a.Own || c.Person == nil {
		return q
	}
	if at := q.form.Values["origin"]; at != "" && at != q.origin {
		q.form.Problems["origin"] = "is not the address of this page, which is " + q.origin
	}
	author, _ := authorOf(c)
	for name, m := range v.Desired.Pipeline.People {
		if m != nil && strings.EqualFold(m.Email, author.Email) {
			q.form.Making = &console.Making{Person: name}
			for _, k := range m.Passkeys {
				if k.Origin == q.origin {
					q.form.Making.Has = append(q.form.Making.Has, k.ID)
				}
			}
		}
	}
	return q
}

// originOf returns the origin of the pages at the listener that was asked.
func originOf(r *http.Request, c *api.Caller) string {
	if c.Listener == api.People {
		return "https://" + strings.ToLower(r.Host)
	}
	return "http://" + strings.ToLower(r.Host)
}

func (h *formHandlers) serveForm(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	secure(w.Header())
	v := h.views.View()
	if v == nil {
		w.Header().Set("Refresh", "2")
		api.WriteNotReady(w)
		return
	}
	a := actions.Find(r.PathValue("action"))
	if a == nil {
		writePage(w, http.StatusNotFound, console.RenderMissing(h.pages.latestModel(v), r.PathValue("action")))
		return
	}
	query, q := r.URL.Query(), h.read(v, r, c, a)
	if a.Own || query.Get(console.StepParam) != console.PreviewStep { // what is missing is not wrong yet
		for name := range q.form.Problems {
			if q.form.Values[name] == "" {
				delete(q.form.Problems, name)
			}
		}
		writePage(w, http.StatusOK, console.RenderForm(q.model, q.form))
		return
	}
	if query.Get(console.AgainParam) != "" {
		q.form.Notice = "You were signed out meanwhile: look at it, and confirm it once more."
	}
	writePage(w, h.preview(w, r, c, &q), console.RenderForm(q.model, q.form))
}

// preview adds the commit, or why there is none, to the form. It returns the response's status.
func (h *formHandlers) preview(w http.ResponseWriter, r *http.Request, c *api.Caller, q *request) int {
	a := q.form.Action
	switch {
	case len(q.form.Problems) > 0:
		return http.StatusUnprocessableEntity
	case a.CommandOnly():
		q.form.Preview = &console.Preview{}
		return http.StatusOK
	case a.Own && c.Person == nil:
		return q.fail(http.StatusConflict, h.mayNot(c, q),
			"With your own rights to the repository, the command does the same.")
	case h.desk == nil || a.AtOnce && h.killer == nil:
		q.form.Error, q.form.Next = "This control plane makes no such commit.", q.form.Command()
		return http.StatusConflict
	case !h.inFlight.Acquire():
		return q.fail(http.StatusServiceUnavailable, "Too many forms are being worked on.", "Try again in a moment.")
	}
	defer h.inFlight.Release()
	ctx, cancel := context.WithTimeout(r.Context(), formTime)
	defer cancel()
	proposal, err := h.desk.Propose(ctx, h.requestOf(c, q))
	if err != nil {
		return h.explain(w, q, err)
	}
	h.show(c, q, proposal)
	return http.StatusOK
}

// requestOf returns what the caller asks for.
func (h *formHandlers) requestOf(c *api.Caller, q *request) desk.Request {
	author, by := authorOf(c)
	from, _, err := net.SplitHostPort(c.RemoteAddr)
	if err != nil {
		from = c.RemoteAddr
	}
	return desk.Request{Action: q.form.Action, Values: q.form.Values, Shown: q.since, Author: author, By: by,
		From: from, Origin: q.origin, Signed: q.signed}
}

// authorOf returns in whose name a caller's commits are made, and how the caller is known. A caller without an address
// that somebody verified has one that nobody can have (RFC 2606).
func authorOf(c *api.Caller) (who releases.Person, by string) {
	const unverified = ".invalid"
	switch p := c.Person; {
	case p != nil:
		who = releases.Person{Name: p.Name, Email: p.Email}
		if who.Email == "" {
			who.Email = mailbox(p.Subject) + "@subject" + unverified
		}
		if who.Name == "" {
			who.Name = p.Label()
		}
		if p.Issuer == "" {
			return who, p.Label() + " (serve --console-as)"
		}
		return who, fmt.Sprintf("%s (oidc %s %s)", p.Label(), p.Issuer, p.Subject)
	case c.TokenHash != "":
		return releases.Person{Name: c.Name, Email: mailbox(c.Name) + "@token" + unverified}, c.Name + " (token)"
	case c.Name != "":
		return releases.Person{Name: c.Name, Email: "administrator@localhost" + unverified}, c.Name
	}
	return releases.Person{Name: "nobody", Email: "nobody@localhost" + unverified}, "nobody"
}

// mailbox returns a name as the part of an address before the @.
func mailbox(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, name)
}

// show adds a proposal to the form.
func (h *formHandlers) show(c *api.Caller, q *request, p edits.Proposal) {
	author, _ := authorOf(c)
	v := &console.Preview{Author: author, Committer: h.committer, Message: p.Message, Summary: p.Summary, Next: p.Next,
		Short: p.Short, Seen: p.Seen, Files: filediff.Compare(p.Before, p.After()), Digest: p.Digest(), Since: q.since,
		MayNot: h.mayNot(c, q), Sign: p.Sign}
	filediff.Bound(v.Files)
	for _, w := range p.Warnings {
		v.Warnings = append(v.Warnings, w.String())
	}
	q.form.Preview = v
}

// mayNot returns why the caller may not confirm the form; empty: they may. The route decides it again.
func (h *formHandlers) mayNot(c *api.Caller, q *request) string {
	a, channel := q.form.Action, ""
	switch a.Scope {
	case actions.Channel:
		channel = q.form.Values[string(actions.Channel)]
	case actions.Cell:
		if cell := q.view.Desired.Cells[q.form.Values[string(actions.Cell)]]; cell != nil {
			channel = cell.Channel
		}
	case actions.Everything, actions.Release, actions.Flag, actions.Announcement:
	}
	switch {
	case a.Own && c.Person == nil:
		return "It is about whoever is signed in, and nobody is: serve the console at https://, and sign in there."
	case c.Grants.Permits(a.Role, channel):
		return ""
	case c.Name == "":
		return "It needs the role " + string(a.Role) + ", and at this address nobody is known: pages only show. " +
			"Serve the console at https://, and sign in there; to try things out, sluice serve has --console-as."
	}
	return "It needs the role " + string(a.Role) + ", and you have " + c.Grants.String() +
		": access in sluice.yaml gives roles to people."
}

// fail adds an error to the form.
func (q *request) fail(status int, text, next string) int {
	q.form.Preview, q.form.Error, q.form.Next = nil, text, next
	return status
}

// explain adds to the form why a commit can't be made.
func (h *formHandlers) explain(w http.ResponseWriter, q *request, err error) int {
	if refused := new(edits.Error); errors.As(err, &refused) {
		text := err.Error()
		for _, f := range refused.Faults {
			text += "; " + f.String()
		}
		return q.fail(http.StatusUnprocessableEntity, text, refused.Next)
	}
	if errors.Is(err, desk.ErrNoCommit) {
		return q.fail(http.StatusUnprocessableEntity, "The branch has no such commit.", "Look at its page again.")
	}
	api.NoteError(w, err)
	return q.fail(http.StatusServiceUnavailable, "The repository can't be used now: the log of sluice serve says why.",
		"Try again in a moment. The command does it without the control plane: "+q.form.Command())
}

// serveConfirmed makes the commit that the caller saw, or shows that of values which only a body has.
func (h *formHandlers) serveConfirmed(w http.ResponseWriter, r *http.Request, c *api.Caller, a *actions.Action) {
	secure(w.Header())
	v := h.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBody)
	err := r.ParseForm()
	if err != nil {
		api.WriteProblem(w, http.StatusBadRequest, "The form can't be read: load its page again.")
		return
	}
	q := h.read(v, r, c, a)
	if a.Own && r.PostForm.Get(console.StepParam) == console.PreviewStep {
		writePage(w, h.preview(w, r, c, &q), console.RenderForm(q.model, q.form))
		return
	}
	q.shown = r.PostForm.Get(console.ShownParam)
	if signed := r.PostForm.Get(console.SignedParam); signed != "" && a.Approve != nil {
		if q.signed, err = edits.ParseAssertion([]byte(signed)); err != nil {
			q.shown, q.form.Notice = "", "What the passkey signed can't be read: "+err.Error()+"."
		}
	}
	if seconds, err := strconv.ParseInt(r.PostForm.Get(console.SinceParam), 10, 64); err == nil {
		if since := time.Unix(seconds, 0).UTC(); q.since.Sub(since).Abs() <= maxShown {
			q.since = since
		} else {
			q.shown = "" // it is shown again
		}
	}
	if len(q.form.Problems) > 0 || h.desk == nil || q.shown == "" || a.AtOnce && h.killer == nil ||
		h.mayNot(c, &q) != "" {
		if q.shown == "" && q.form.Notice == "" {
			q.form.Notice = "It was shown too long ago, or not at all: look at it again."
		}
		status := h.preview(w, r, c, &q)
		if status == http.StatusOK {
			status = http.StatusConflict
		}
		writePage(w, status, console.RenderForm(q.model, q.form))
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), formTime) // it is finished if the tab goes
	defer cancel()
	if err = h.auth.Audit(ctx, c, "in the console: "+q.form.Command()); err != nil {
		api.WriteError(w, err)
		return
	}
	if a.AtOnce {
		h.kill(ctx, w, r, c, &q)
		return
	}
	h.commit(ctx, w, r, c, &q)
}

// commit makes the commit, and leads to its page.
func (h *formHandlers) commit(ctx context.Context, w http.ResponseWriter, r *http.Request, c *api.Caller, q *request) {
	if !h.inFlight.Acquire() {
		writePage(w, q.fail(http.StatusServiceUnavailable, "Too many forms are being worked on.",
			"Try again in a moment."),
			console.RenderForm(q.model, q.form))
		return
	}
	defer h.inFlight.Release()
	asked := h.requestOf(c, q)
	done, now, err := h.desk.Commit(ctx, asked, q.shown)
	where := desk.RepositoryOf(asked)
	if done.Commit != "" {
		if err := h.auth.Audit(ctx, c, fmt.Sprintf("commit %s of the %s repository: %s", done.Commit, where,
			q.form.Command())); err != nil {
			api.NoteError(w, err) // the commit says itself who asked for it
		}
	}
	switch {
	case errors.Is(err, edits.ErrChanged):
		q.form.Notice = "The repository changed meanwhile. This is the commit as it would be now."
		h.show(c, q, now)
		writePage(w, http.StatusConflict, console.RenderForm(q.model, q.form))
		return
	case err != nil:
		status := h.explain(w, q, err)
		if done.Commit != "" { // of an approval that does not count
			q.form.Made = console.CommitAddress(where, done.Commit)
		}
		writePage(w, status, console.RenderForm(q.model, q.form))
		return
	case done.Commit == "":
		h.show(c, q, now)
		writePage(w, http.StatusOK, console.RenderForm(q.model, q.form))
		return
	}
	redirect(w, r, console.CommitAddress(where, done.Commit)+"?fresh=1")
}

// kill kills a flag, and leads to the flag's page, which counts the cells that confirmed it.
func (h *formHandlers) kill(ctx context.Context, w http.ResponseWriter, r *http.Request, c *api.Caller, q *request) {
	v := q.form.Values
	o := repository.Override{Kind: repository.Kill, Flag: v[string(actions.Flag)], Reason: v["reason"], By: c.Name}
	if until := v["until"]; until != "" {
		o.Until, _ = actions.ParseInstant(until, q.since) // Parse checked it
		o.Until = o.Until.UTC().Truncate(time.Second)
	}
	if err := h.killer.Kill(ctx, o); err != nil {
		api.WriteError(w, err)
		return
	}
	redirect(w, r, console.Address{Kind: console.Flags, Name: o.Flag}.String())
}

func (h *formHandlers) serveCommit(w http.ResponseWriter, r *http.Request, _ *api.Caller) {
	secure(w.Header())
	v := h.views.View()
	if v == nil {
		api.WriteNotReady(w)
		return
	}
	model, repo := h.pages.latestModel(v), r.PathValue("repository")
	if h.desk == nil {
		writePage(w, http.StatusNotFound, console.RenderMissing(model, r.PathValue("commit")))
		return
	}
	if !h.inFlight.Acquire() {
		api.SetRetryAfter(w, 2)
		api.WriteProblem(w, http.StatusServiceUnavailable, "Too many commits are being read: load the page again.")
		return
	}
	defer h.inFlight.Release()
	ctx, cancel := context.WithTimeout(r.Context(), formTime)
	defer cancel()
	c, err := h.desk.Show(ctx, repo, r.PathValue("commit"))
	if refused := new(edits.Error); errors.Is(err, desk.ErrNoCommit) || errors.As(err, &refused) {
		writePage(w, http.StatusNotFound, console.RenderMissing(model, r.PathValue("commit")))
		return
	}
	if err != nil {
		api.WriteError(w, err)
		return
	}
	shown := console.Commit{Repository: repo, Change: c.Change, Files: filediff.Compare(c.Before, c.After),
		Left:     c.Left,
		Undoable: c.Undoable(), Fresh: r.URL.Query().Get("fresh") != ""}
	filediff.Bound(shown.Files)
	writePage(w, http.StatusOK, console.RenderCommit(model, shown))
}

// writePage writes a page of one moment, which nothing keeps.
func writePage(w http.ResponseWriter, status int, p *console.Page) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(p.Document()) // an error means that the client has gone
}

// redirect leads a browser that has posted a form to a page, which can be loaded again without doing it again.
func redirect(w http.ResponseWriter, _ *http.Request, to string) {
	w.Header().Set("Location", to)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusSeeOther)
}
