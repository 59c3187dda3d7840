package stack

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

// The SDK's clients of these services are 23 MB of the program, and slow the start of every verb
// (docs/decisions/0017-aws-without-clients.md). So the few requests are written here as the services' models have them;
// credentials, configuration and signatures are the SDK's.

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

// codeOf returns AWS's code of an error; empty: it is none of AWS's.
func codeOf(err error) string {
	if r := new(refusal); errors.As(err, &r) {
		return r.code
	}
	return ""
}

var (
	errNothing  = errors.New("an empty answer")
	errTooLarge = errors.New("the answer is too large")
)

// ask makes a request of the query protocol, which CloudFormation and STS speak, and decodes its result from XML.
func (c *cloud) ask(ctx context.Context, service, action string, parameters url.Values, into any) error {
	form := url.Values{"Action": {action}, "Version": {versionOf(service)}}
	for name, values := range parameters {
		form[name] = values
	}
	answer, err := c.send(ctx, service, "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	if err != nil {
		return err
	}
	return xml.Unmarshal(answer, into)
}

// askJSON makes a request of the JSON protocol, version 1.1, which Systems Manager and Service Quotas speak.
func (c *cloud) askJSON(ctx context.Context, service, target string, parameters, into any) error {
	body, err := json.Marshal(parameters)
	if err != nil {
		return err
	}
	answer, err := c.send(ctx, service, "application/x-amz-json-1.1", target, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, into)
}

func versionOf(service string) string {
	if service == "sts" {
		return "2011-06-15"
	}
	return "2010-05-15"
}

// send sends a request, and again after a while if AWS is too busy.
func (c *cloud) send(ctx context.Context, service, kind, target string, body []byte) (answer []byte, err error) {
	for try := 0; ; try++ {
		answer, err = c.sendOnce(ctx, service, kind, target, body)
		r := new(refusal)
		again := errors.As(err, &r) && (isThrottled(r.code) || r.status >= http.StatusInternalServerError)
		if !again || try == tries-1 {
			return answer, err
		}
		if backoff.Sleep(ctx, backoff.Spread(backoff.Exponential(firstWait, longest, try))) != nil {
			return nil, err
		}
	}
}

func (c *cloud) sendOnce(ctx context.Context, service, kind, target string, body []byte) ([]byte, error) {
	address := "https://" + service + "." + c.region + "." + suffix(c.region)
	if c.config.BaseEndpoint != nil { // AWS_ENDPOINT_URL
		address = strings.TrimRight(*c.config.BaseEndpoint, "/")
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
	err = v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(sum[:]), service, c.region, time.Now())
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
		return nil, errTooLarge
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
	if !isWord(code, 80, ".") {
		return fmt.Sprintf("HTTP %d", status)
	}
	return code
}
