package signin

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/sluice-cd/sluice/engine/access"
)

// Device is a device's sign-in under way (RFC 8628).
type Device struct {
	Handle   string    `json:"handle" doc:"to be sent back to ask whether the person is done"`
	UserCode string    `json:"userCode" doc:"what the person enters"`
	URL      string    `json:"url" doc:"where"`
	Complete string    `json:"completeUrl,omitempty" doc:"the same, with the code in it"`
	Interval int       `json:"interval" doc:"seconds between two requests for the token"`
	Expires  time.Time `json:"expires"`
}

// device is what a handle holds, encrypted.
type device struct {
	Code    string
	Expires time.Time
}

const devicePurpose = "device's sign-in"

var (
	// ErrPending means that the person has not finished signing in.
	ErrPending = errors.New("the person has not finished signing in")
	// ErrSlowDown is ErrPending for who asks too often.
	ErrSlowDown = errors.New("ask less often")
)

// StartDevice begins a sign-in that a person finishes in any browser.
func (s *Service) StartDevice(ctx context.Context) (Device, error) {
	d, err := s.provider.discover(ctx)
	if err != nil {
		return Device{}, err
	}
	if d.metadata.Device == "" {
		return Device{}, &Refusal{Message: "This identity provider has no device flow: use a token of sluice token add, " +
			"or another provider"}
	}
	var said struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URL        string `json:"verification_uri"`
		Complete   string `json:"verification_uri_complete"`
		ExpiresIn  int    `json:"expires_in"`
		Interval   int    `json:"interval"`
	}
	err = s.provider.post(ctx, d.metadata.Device, url.Values{"scope": {strings.Join(d.oauth.Scopes, " ")}}, &said)
	if err != nil {
		return Device{}, err
	}
	out := Device{UserCode: clip(said.UserCode), URL: said.URL, Complete: said.Complete,
		Interval: max(said.Interval, 1), Expires: s.now().Add(time.Duration(min(max(said.ExpiresIn, 60),
			1800)) * time.Second).UTC()}
	for _, at := range []string{said.URL, said.Complete} {
		u, err := url.Parse(at)
		if err != nil || at != "" && u.Scheme != "https" && u.Scheme != "http" || clip(at) != at {
			return Device{}, unavailable(errors.New("the address for the person is no URL"))
		}
	}
	out.Handle, err = s.key.sealJSON(devicePurpose, device{said.DeviceCode, out.Expires})
	return out, err
}

// FinishDevice returns the secret of a session once the person is done, and when it ends; before that, ErrPending or
// ErrSlowDown.
func (s *Service) FinishDevice(ctx context.Context, handle, from string) (secret string, ends time.Time, err error) {
	var held device
	if s.key.openJSON(devicePurpose, handle, &held) != nil || !s.now().Before(held.Expires) {
		return "", ends, &Refusal{Message: "This sign-in took too long, or another replica with another key began it: " +
			"begin again with sluice login"}
	}
	d, err := s.provider.discover(ctx)
	if err != nil {
		return "", ends, err
	}
	limited, cancel := context.WithTimeout(s.provider.with(ctx), providerTimeout)
	defer cancel()
	token, err := d.oauth.Exchange(limited, "",
		oauth2.SetAuthURLParam("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
		oauth2.SetAuthURLParam("device_code", held.Code))
	said := new(oauth2.RetrieveError)
	if errors.As(err, &said) {
		switch said.ErrorCode {
		case "authorization_pending":
			return "", ends, ErrPending
		case "slow_down":
			return "", ends, ErrSlowDown
		case "access_denied":
			return "", ends, s.refuse(ctx, access.Person{}, from, &Refusal{Denied: true,
				Message: "The sign-in was refused at the identity provider"})
		case "expired_token":
			return "", ends, &Refusal{Message: "This sign-in took too long: begin again with sluice login"}
		}
	}
	if err != nil {
		return "", ends, s.refuse(ctx, access.Person{}, from, explainTokenError(err))
	}
	who, err := s.provider.identify(ctx, d, token, "")
	if err != nil {
		return "", ends, s.refuse(ctx, who, from, err)
	}
	if secret, err = s.begin(ctx, who, command, token.RefreshToken, from); err != nil {
		return "", ends, err
	}
	if found := s.sessions.find(hashOf(secret)); found != nil {
		ends = found.Ends
	}
	return secret, ends, nil
}
