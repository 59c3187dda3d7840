package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sluice-cd/sluice/internal/backoff"
)

const (
	maxAnswer = 8 << 20 // bytes
	tries     = 3
	firstWait = 200 * time.Millisecond // before the second try
	longest   = 2 * time.Second
)

// refusal is an error that AWS answered. Its text is not AWS's, which names roles and sessions.
type refusal struct {
	code   string
	status int
}

func (r *refusal) Error() string { return "AWS answers " + r.code }

// CodeOf returns AWS's code of an error; empty: it is none of AWS's.
func CodeOf(err error) string {
	if r := new(refusal); errors.As(err, &r) {
		return r.code
	}
	return ""
}

// ErrTooLarge says that an answer has more bytes than are read.
var ErrTooLarge = errors.New("the answer is too large")

// Service is one of AWS's.
type Service struct {
	Name    string // in signatures
	Host    string // the beginning of its endpoint's name; empty: Name
	Version string // of the query protocol; empty: it speaks JSON
}

// Query makes a request of the query protocol, and decodes its result from XML.
func (c *Client) Query(ctx context.Context, s Service, action string, parameters url.Values, into any) error {
	form := url.Values{"Action": {action}, "Version": {s.Version}}
	for name, values := range parameters {
		form[name] = values
	}
	answer, err := c.send(ctx, s, "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	if err != nil {
		return err
	}
	return xml.Unmarshal(answer, into)
}

// JSON makes a request of the JSON protocol, version 1.1. A target is such as AmazonSSM.GetParameter.
func (c *Client) JSON(ctx context.Context, s Service, target string, parameters, into any) error {
	body, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	answer, err := c.send(ctx, s, "application/x-amz-json-1.1", target, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

// send sends a request, and again after a while if AWS is too busy.
func (c *Client) send(ctx context.Context, s Service, kind, target string, body []byte) (answer []byte, err error) {
	for try := 0; ; try++ {
		answer, err = c.sendOnce(ctx, s, kind, target, body)
		r := new(refusal)
		again := errors.As(err, &r) && (IsThrottled(r.code) || r.status >= http.StatusInternalServerError)
		if !again || try == tries-1 {
			return answer, err
		}
		if backoff.Sleep(ctx, backoff.Spread(backoff.Exponential(firstWait, longest, try))) != nil {
			return nil, err
		}
	}
}

func (c *Client) sendOnce(ctx context.Context, s Service, kind, target string, body []byte) ([]byte, error) {
	address, err := c.endpoint(ctx, s)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", kind)
	if target != "" {
		request.Header.Set("X-Amz-Target", target)
	}
	credentials, err := c.config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), s.Name, c.Region, time.Now())
	if err != nil {
		return nil, err
	}
	response, err := c.config.HTTPClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxAnswer:
		return nil, ErrTooLarge
	case response.StatusCode != http.StatusOK:
		return nil, &refusal{readCode(data, target != "", response.StatusCode), response.StatusCode}
	}
	return data, nil
}

// readCode finds AWS's code in the answer to a request that failed.
func readCode(data []byte, isJSON bool, status int) string {
	var code string
	if isJSON {
		var body struct {
			Type string `json:"__type"`
		}
		if json.Unmarshal(data, &body) == nil {
			code = body.Type[strings.LastIndexByte(body.Type, '#')+1:]
		}
	} else {
		var body struct {
			Error struct{ Code string }
		}
		if xml.Unmarshal(data, &body) == nil {
			code = body.Error.Code
		}
	}
	if !IsWord(code, 80, ".") { // else it may name roles or sessions
		return fmt.Sprintf("HTTP %d", status)
	}
	return code
}
