package peopleapi

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
)

// Tokens stores operators' tokens and cells' one-time tokens by the hash of their secrets, and the audit.
type Tokens interface {
	Tokens(ctx context.Context) ([]access.Token, error)                  // all tokens, expired ones too
	AddToken(ctx context.Context, t access.Token) error                  // access.ErrTaken if the name is taken
	RemoveToken(ctx context.Context, name string) error                  // access.ErrUnknown if there is none
	AddJoin(ctx context.Context, j access.Join) error                    // valid while the cell has the same Serial
	AuditEntries(ctx context.Context, limit int) ([]access.Entry, error) // newest first
}

// tokenHandlers serves people's tokens and the audit, and changes tokens. Each change is recorded in the audit first.
type tokenHandlers struct {
	tokens  Tokens // nil without a store of tokens
	auth    *auth.Auth
	auditor auditor
}

// Operator is a token without its secret.
type Operator = access.Token

// NewOperator is the request for a token.
type NewOperator struct {
	Name  string   `json:"name" minLength:"1" maxLength:"100" pattern:"^[A-Za-z0-9][A-Za-z0-9._@-]*$" doc:"name of the person or program; unique"`
	Roles []string `json:"roles" minItems:"1" maxItems:"4" enum:"viewer,operator,approver,admin"`
	For   string   `json:"for,omitempty" doc:"how long the token is valid, such as 720h; default: until it is removed"`
}

// OperatorToken is a token with its secret, which is shown once.
type OperatorToken struct {
	Operator
	Token string `json:"token" doc:"for the header Authorization: Bearer, or $SLUICE_TOKEN"`
}

type operatorInput struct{ Body NewOperator }

type operatorOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         OperatorToken
}

func (o *tokenHandlers) addToken(ctx context.Context, in *operatorInput) (*operatorOutput, error) {
	if o.tokens == nil {
		return nil, huma.Error409Conflict("This control plane has no store of tokens.")
	}
	roles, err := access.ParseRoles(in.Body.Roles...)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	token, secret, err := NewToken(in.Body.Name, roles, in.Body.For, time.Now())
	if err != nil {
		return nil, huma.Error422UnprocessableEntity(err.Error())
	}
	if err := o.auditor.record(ctx, "add the token "+token.Name+" with "+token.DescribeRoles()); err != nil {
		return nil, err
	}
	err = o.tokens.AddToken(ctx, token)
	o.auth.InvalidateTokens()
	if err != nil {
		return nil, o.auditor.explainError(err, "add a token")
	}
	return &operatorOutput{CacheControl: "no-store", Body: OperatorToken{Operator: token, Token: secret}}, nil
}

// operatorName repeats NewOperator's pattern for tokens that are made without the API.
var operatorName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$`)
})

// secretPrefix identifies a token to people and to secret scanners.
const secretPrefix = "sluice_"

// NewToken returns a token to store, and its secret.
func NewToken(name string, roles access.Roles, lasts string, now time.Time) (access.Token, string, error) {
	t := access.Token{Name: name, Roles: roles, Created: now}
	if !operatorName().MatchString(name) {
		return t, "", errors.New(
			"a token's name has 1 to 100 letters, digits and . _ @ -, and begins with a letter or a digit: logs and " +
				"the audit show it")
	}
	if lasts != "" {
		d, err := time.ParseDuration(lasts)
		if err != nil || d <= 0 {
			return t, "", errors.New("the token's lifetime must be a duration such as 720h")
		}
		t.Expires = now.Add(d)
	}
	secret, err := identity.NewSecret(rand.Reader)
	secret = secretPrefix + secret
	t.Hash = identity.HashSecret(secret)
	return t, secret, err
}

type operatorsOutput struct {
	Body struct {
		Tokens []Operator `json:"tokens" doc:"by name, expired ones too"`
	}
}

func (o *tokenHandlers) listTokens(ctx context.Context, _ *struct{}) (*operatorsOutput, error) {
	out := &operatorsOutput{}
	out.Body.Tokens = []Operator{}
	if o.tokens == nil {
		return out, nil
	}
	found, err := o.tokens.Tokens(ctx)
	if err != nil {
		return nil, o.auditor.explainError(err, "read tokens")
	}
	out.Body.Tokens = append(out.Body.Tokens, found...)
	return out, nil
}

type tokenInput struct {
	Name string `path:"name" maxLength:"100"`
}

func (o *tokenHandlers) removeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	if o.tokens == nil {
		return nil, huma.Error404NotFound("There is no such token.")
	}
	if err := o.auditor.record(ctx, "remove the token "+in.Name); err != nil {
		return nil, err
	}
	err := o.tokens.RemoveToken(ctx, in.Name)
	o.auth.InvalidateTokens()
	if err != nil {
		return nil, o.auditor.explainError(err, "remove a token")
	}
	return nil, nil
}

type auditInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"10000" default:"100"`
}

type auditOutput struct {
	Body struct {
		Entries []access.Entry `json:"entries" doc:"newest first"`
	}
}

func (o *tokenHandlers) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	out := &auditOutput{}
	out.Body.Entries = []access.Entry{}
	if o.tokens == nil {
		return out, nil
	}
	found, err := o.tokens.AuditEntries(ctx, in.Limit)
	if err != nil {
		return nil, o.auditor.explainError(err, "read the audit")
	}
	out.Body.Entries = append(out.Body.Entries, found...)
	return out, nil
}
