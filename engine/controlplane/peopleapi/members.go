package peopleapi

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/roster"
	"github.com/sluice-cd/sluice/engine/view"
)

// Members changes cells' identities.
type Members interface {
	Roster() *roster.Roster
	// ChangeIdentity durably changes a cell's identity. It returns plan.ErrStale after a concurrent change.
	ChangeIdentity(ctx context.Context, cell, by string, change func(*cells.Identity)) error
}

// memberHandlers serves cells' identities, and changes them. Each change is recorded in the audit first.
type memberHandlers struct {
	views      api.Views
	members    Members  // nil if cells have no keys
	tokens     Tokens   // nil without a store of tokens
	address    string   // HOST:PORT under which cells reach their listener
	pins       []string // of the cells' listener; empty without one
	pollBranch func()   // nil: the branch is polled at intervals only
	auditor    auditor
}

// describeMember returns a cell with its identity in the roster, which is newer than the view.
func (m *memberHandlers) describeMember(c view.CellStatus) view.Member {
	if m.members == nil {
		return view.MemberOf(c, cells.Identity{})
	}
	return view.MemberOf(c, m.members.Roster().Identity(c.Name))
}

// MemberPage is a page of cells.
type MemberPage struct {
	Cells []view.Member `json:"cells" doc:"by name"`
	Total int           `json:"total"`
	Keyed bool          `json:"keyed" doc:"cells have keys here; else they name themselves, on the control plane's machine"`
	Next  string        `json:"next,omitempty" doc:"after= of the next page; omitted on the last page"`
}

type membersOutput struct{ Body MemberPage }

func (m *memberHandlers) listMembers(ctx context.Context, in *statusInput) (*membersOutput, error) {
	found, err := (&fleetHandlers{views: m.views}).showStatus(ctx, in)
	if err != nil {
		return nil, err
	}
	out := &membersOutput{
		Body: MemberPage{Cells: make([]view.Member, 0, len(found.Body.Cells)), Total: found.Body.Total,
			Keyed: len(m.pins) > 0, Next: found.Body.Next}}
	for _, c := range found.Body.Cells {
		out.Body.Cells = append(out.Body.Cells, m.describeMember(c))
	}
	return out, nil
}

type cellInput struct {
	Name string `path:"name" maxLength:"253" doc:"a cell"`
}

type memberOutput struct{ Body view.Member }

func (m *memberHandlers) showMember(_ context.Context, in *cellInput) (*memberOutput, error) {
	v, err := latestView(m.views)
	if err != nil {
		return nil, err
	}
	if v.Desired.Cells[in.Name] == nil {
		return nil, unknownCell() // a GET has no effect: the branch is not polled (R57)
	}
	return &memberOutput{Body: m.describeMember(view.CellOf(v, in.Name))}, nil
}

// awaitedCell polls the branch, which may have the cell since a moment ago, and returns a 404.
func (m *memberHandlers) awaitedCell() error {
	if m.pollBranch != nil {
		m.pollBranch()
	}
	return unknownCell()
}

func unknownCell() error {
	return huma.Error404NotFound(
		"The release repository has no such cell: add cells/NAME/cell.yaml, or check the name. If it was added just " +
			"now, ask again in a moment.")
}

// JoinToken lets one agent register as a cell. Its secret is shown once.
type JoinToken struct {
	Cell    string    `json:"cell"`
	Token   string    `json:"token" doc:"one word, for sluice agent --join"`
	Expires time.Time `json:"expires"`
}

type joinOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         JoinToken
}

func (m *memberHandlers) createJoinToken(ctx context.Context, in *cellInput) (*joinOutput, error) {
	v, err := latestView(m.views)
	if err != nil {
		return nil, err
	}
	if v.Desired.Cells[in.Name] == nil {
		return nil, m.awaitedCell()
	}
	if len(m.pins) == 0 || m.members == nil || m.tokens == nil {
		return nil, huma.Error409Conflict(
			"This control plane has no listener for cells with keys: start it with sluice serve --cells HOST:PORT.")
	}
	c := api.CallerOf(ctx)
	if err := m.auditor.record(ctx, "make a token for cell "+in.Name); err != nil {
		return nil, err
	}
	token, join, err := NewJoinToken(in.Name, m.members.Roster().Identity(in.Name).Serial, c.Name, m.address, m.pins,
		time.Now())
	token.Root = string(v.Desired.RootFor(in.Name))
	if err == nil {
		err = m.tokens.AddJoin(ctx, join)
	}
	if err != nil {
		return nil, m.auditor.explainError(err, "make a token")
	}
	return &joinOutput{CacheControl: "no-store",
		Body: JoinToken{Cell: in.Name, Token: token.String(), Expires: join.Expires}}, nil
}

// NewJoinToken returns a one-time token for a cell whose identity has a serial, and the record to store.
func NewJoinToken(
	cell string, serial int64, by, address string, pins []string, now time.Time,
) (identity.Token, access.Join, error) {
	secret, err := identity.NewSecret(rand.Reader)
	if err != nil {
		return identity.Token{}, access.Join{}, err
	}
	return identity.Token{Cell: cell, Address: address, Pins: pins, Secret: secret},
		access.Join{Cell: cell, Hash: identity.HashSecret(secret), Serial: serial, By: by, Created: now,
			Expires: now.Add(access.JoinLifetime)}, nil
}

func (m *memberHandlers) rotateKey(ctx context.Context, in *cellInput) (*memberOutput, error) {
	return m.changeIdentity(ctx, in, "ask cell "+in.Name+" for a new key",
		func(id *cells.Identity) { id.Rotate = true })
}

func (m *memberHandlers) revokeCell(ctx context.Context, in *cellInput) (*memberOutput, error) {
	return m.changeIdentity(ctx, in, "revoke cell "+in.Name, func(id *cells.Identity) {
		id.Revoked, id.Rotate = true, false
	})
}

// changeIdentity changes a cell's identity. The change applies at once here, and within 2 s in other replicas.
func (m *memberHandlers) changeIdentity(
	ctx context.Context, in *cellInput, what string, change func(*cells.Identity),
) (*memberOutput, error) {
	v, err := latestView(m.views)
	if err != nil {
		return nil, err
	}
	if m.members == nil {
		return nil, huma.Error409Conflict("On this control plane cells have no keys.")
	}
	if now := m.members.Roster().Identity(in.Name); now.PublicKey == "" || view.AccessOf(now) == view.AccessRevoked {
		if v.Desired.Cells[in.Name] == nil {
			return nil, m.awaitedCell()
		}
		return nil, huma.Error409Conflict("The cell has no valid key: make a token for it with sluice cell add.")
	}
	if err := m.auditor.record(ctx, what); err != nil {
		return nil, err
	}
	if err := m.members.ChangeIdentity(ctx, in.Name, api.CallerOf(ctx).Name, change); err != nil {
		return nil, m.auditor.explainError(err, what)
	}
	return m.showMember(ctx, in)
}
