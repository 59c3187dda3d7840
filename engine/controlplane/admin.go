package controlplane

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// What people do to cells' identities and to each other's tokens. Each is written to the audit before it is done.

// Member is a cell, and under which key it comes.
type Member struct {
	CellStatus
	Access      Access `json:"access" doc:"whether it may come in"`
	PublicKey   string `json:"publicKey,omitempty"`
	Previous    string `json:"previous,omitempty" doc:"the key before, good until the new one was used"`
	Serial      int64  `json:"serial,omitempty" doc:"grows with every change of its identity"`
	Quarantined string `json:"quarantined,omitempty" doc:"why nobody is served under its key (R27)"`
}

// Access is whether a cell may come in.
type Access string

// A cell is one of these.
const (
	AccessNone        Access = "unregistered"
	AccessGood        Access = "registered"
	AccessRotating    Access = "rotating" // registered, and asked for a new key
	AccessRevoked     Access = "revoked"
	AccessQuarantined Access = "quarantined"
)

// AccessOf sums an identity up: pure.
func AccessOf(id cells.Identity) Access {
	switch {
	case id.Revoked:
		return AccessRevoked
	case id.Quarantined != "":
		return AccessQuarantined
	case id.PublicKey == "":
		return AccessNone
	case id.Rotate:
		return AccessRotating
	}
	return AccessGood
}

func memberOf(c CellStatus, id cells.Identity) Member {
	return Member{CellStatus: c, Access: AccessOf(id), PublicKey: id.PublicKey, Previous: id.Previous, Serial: id.Serial, Quarantined: id.Quarantined}
}

// MembersOf are a page's cells, with the identities that the view has: pure.
func MembersOf(v *view.View, page StatusPage) []Member {
	all := []Member{}
	for _, c := range StatusOf(v, page).Cells {
		all = append(all, memberOf(c, v.Identity(c.Name)))
	}
	return all
}

// member is a cell as it is shown: by the roster, which is newer than the view.
func (s *Server) member(c CellStatus) Member {
	if s.opts.Members == nil {
		return memberOf(c, cells.Identity{})
	}
	return memberOf(c, s.opts.Members.Roster().Identity(c.Name))
}

// MemberPage is a page of cells.
type MemberPage struct {
	Cells []Member `json:"cells" doc:"by name"`
	Total int      `json:"total"`
	Next  string   `json:"next,omitempty" doc:"give it as after= for the next page; none: this was the last"`
}

type membersOutput struct{ Body MemberPage }

func (s *Server) members(ctx context.Context, in *statusInput) (*membersOutput, error) {
	status, err := s.status(ctx, in)
	if err != nil {
		return nil, err
	}
	out := &membersOutput{Body: MemberPage{Cells: make([]Member, 0, len(status.Body.Cells)), Total: status.Body.Total, Next: status.Body.Next}}
	for _, c := range status.Body.Cells {
		out.Body.Cells = append(out.Body.Cells, s.member(c))
	}
	return out, nil
}

type cellInput struct {
	Name string `path:"name" maxLength:"253" doc:"a cell"`
}

type memberOutput struct{ Body Member }

func (s *Server) oneMember(_ context.Context, in *cellInput) (*memberOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if v.Desired.Cells[in.Name] == nil {
		return nil, s.noCell()
	}
	var blocked []channels.Verdict
	for _, b := range v.Plan.Blocked {
		if b.Cell == in.Name {
			blocked = append(blocked, b)
		}
	}
	return &memberOutput{Body: s.member(cellStatus(v, in.Name, blocked))}, nil
}

// noCell says so, and has the branch looked at: the cell may have been committed just now.
func (s *Server) noCell() error {
	if s.opts.Pushed != nil {
		s.opts.Pushed()
	}
	return huma.Error404NotFound("The release repository has no such cell: add cells/NAME/cell.yaml, or check the name. If it was added just now, ask again in a moment.")
}

// JoinToken is a token that lets one agent register as a cell. It is shown this once.
type JoinToken struct {
	Cell    string    `json:"cell"`
	Token   string    `json:"token" doc:"for sluice agent --join: one word"`
	Expires time.Time `json:"expires"`
}

type joinOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         JoinToken
}

func (s *Server) addJoin(ctx context.Context, in *cellInput) (*joinOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if v.Desired.Cells[in.Name] == nil {
		return nil, s.noCell()
	}
	if s.opts.Keys == nil || s.opts.Members == nil || s.opts.Tokens == nil {
		return nil, huma.Error409Conflict("This control plane does not serve cells by key, so that there is nothing to register at: start it with sluice serve --cells HOST:PORT.")
	}
	c := callerOf(ctx)
	if err := s.audit(ctx, "make a token for cell "+in.Name); err != nil {
		return nil, err
	}
	token, join, err := NewJoin(in.Name, s.opts.Members.Roster().Identity(in.Name).Serial, c.name, s.opts.Address, s.opts.Keys.Pins, time.Now())
	if err == nil {
		err = s.opts.Tokens.AddJoin(ctx, join)
	}
	if err != nil {
		return nil, s.explained(err, "make a token")
	}
	return &joinOutput{CacheControl: "no-store", Body: JoinToken{Cell: in.Name, Token: token.String(), Expires: join.Expires}}, nil
}

// NewJoin makes a token for a cell whose identity has a serial: what is handed over, and what is kept.
func NewJoin(cell string, serial int64, by, address string, pins []string, now time.Time) (identity.Token, access.Join, error) {
	secret, err := identity.NewSecret(rand.Reader)
	if err != nil {
		return identity.Token{}, access.Join{}, err
	}
	return identity.Token{Cell: cell, Address: address, Pins: pins, Secret: secret},
		access.Join{Cell: cell, Hash: identity.HashSecret(secret), Serial: serial, By: by, Created: now, Expires: now.Add(access.JoinFor)}, nil
}

func (s *Server) rotate(ctx context.Context, in *cellInput) (*memberOutput, error) {
	return s.identifies(ctx, in, "ask cell "+in.Name+" for a new key", func(id *cells.Identity) { id.Rotate = true })
}

func (s *Server) revoke(ctx context.Context, in *cellInput) (*memberOutput, error) {
	return s.identifies(ctx, in, "revoke cell "+in.Name, func(id *cells.Identity) { id.Revoked, id.Rotate = true, false })
}

// identifies changes a cell's identity. It counts at once, here, and within 2 s everywhere.
func (s *Server) identifies(ctx context.Context, in *cellInput, what string, change func(*cells.Identity)) (*memberOutput, error) {
	v, err := s.shown()
	if err != nil {
		return nil, err
	}
	if s.opts.Members == nil {
		return nil, huma.Error409Conflict("This control plane does not know cells by key.")
	}
	if now := s.opts.Members.Roster().Identity(in.Name); now.PublicKey == "" || AccessOf(now) == AccessRevoked {
		if v.Desired.Cells[in.Name] == nil {
			return nil, s.noCell()
		}
		return nil, huma.Error409Conflict("The cell has no key that is good: sluice cell add makes it a token.")
	}
	if err := s.audit(ctx, what); err != nil {
		return nil, err
	}
	if err := s.opts.Members.Identify(ctx, in.Name, callerOf(ctx).name, change); err != nil {
		return nil, s.explained(err, what)
	}
	return s.oneMember(ctx, in)
}

// audit writes down who is about to do what. What can't be written down is not done.
func (s *Server) audit(ctx context.Context, what string) error {
	if s.opts.Tokens == nil {
		return nil
	}
	c := callerOf(ctx)
	s.log.Info().Str("by", c.name).Str("from", c.from).Msg(what)
	if err := s.opts.Tokens.Audit(ctx, access.Entry{At: time.Now(), Who: c.name, What: what, From: c.from}); err != nil {
		return s.explained(err, "keep a line of the audit")
	}
	return nil
}

// explained is an error from inside as people are told it; the unexpected goes to the log.
func (s *Server) explained(err error, what string) error {
	switch {
	case errors.Is(err, access.ErrUnknown):
		return huma.Error404NotFound("There is no such token.")
	case errors.Is(err, access.ErrTaken):
		return huma.Error409Conflict("There is a token of that name: remove it first, or take another name.")
	case errors.Is(err, plan.ErrStale):
		return huma.Error409Conflict("The cell's identity was changed by somebody else meanwhile: look at it, and try again.")
	}
	status, detail, unexpected := explain(err)
	if unexpected {
		s.log.Error().Err(err).Msg(what)
	}
	return huma.NewError(status, detail)
}

// adminRoutes are for people who look after cells and tokens.
func (s *Server) adminRoutes() {
	tags := []string{"access"}
	op := func(id, method, path, summary string, errors ...int) huma.Operation {
		return s.secured(huma.Operation{OperationID: id, Method: method, Path: path, Tags: tags, Summary: summary, Errors: slices.Concat(errors, []int{503})})
	}
	huma.Register(s.api, op("cells", http.MethodGet, "/v1/cells", "All cells: what they run, and under which key they come", 404), s.members)
	huma.Register(s.api, op("cell", http.MethodGet, "/v1/cells/{name}", "One cell", 404), s.oneMember)
	huma.Register(s.api, op("joinCell", http.MethodPost, "/v1/cells/{name}/tokens", "A one-time token to register as this cell, good for an hour", 404, 409), s.addJoin)
	huma.Register(s.api, op("rotateCell", http.MethodPost, "/v1/cells/{name}/rotate", "Ask the cell for a new key", 404, 409), s.rotate)
	huma.Register(s.api, op("revokeCell", http.MethodPost, "/v1/cells/{name}/revoke", "Shut the cell out, within 2 s, until it gets a new token", 404, 409), s.revoke)
	huma.Register(s.api, op("tokens", http.MethodGet, "/v1/tokens", "Everyone's tokens, without their secrets"), s.tokens)
	huma.Register(s.api, op("addToken", http.MethodPost, "/v1/tokens", "A token for a person or a program", 409), s.addToken)
	huma.Register(s.api, op("removeToken", http.MethodDelete, "/v1/tokens/{name}", "A token is not good any more, at once", 404), s.removeToken)
	huma.Register(s.api, op("audit", http.MethodGet, "/v1/audit", "Who did what to cells and tokens"), s.audits)
}
