package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/parley-p2p/parley/node"
)

const (
	settingsFile    = "parley.toml"
	maxSettingsFile = 1 << 20
)

// fileSettings is parley.toml. Paths in it are relative to its directory.
type fileSettings struct {
	Plugins    *string  `toml:"plugins"`
	PinnedOnly *bool    `toml:"pinned-only"`
	Listen     *string  `toml:"listen"`
	Advertise  []string `toml:"advertise"`
	Bootstrap  []string `toml:"bootstrap"`
	Network    *string  `toml:"network"`
	Deadline   *string  `toml:"deadline"`
	MaxPayload *int64   `toml:"max-payload"`
	LogLevel   *string  `toml:"log-level"`
	LogJSON    *bool    `toml:"log-json"`
	ResendFor  *string  `toml:"resend-for"`
	Debug      *bool    `toml:"handler-debug"`
	fileLimits
	DNA     map[string]fileDNASettings     `toml:"dna"`
	Handler map[string]fileHandlerSettings `toml:"handler"` // by file of the plugin directory
}

type fileHandlerSettings struct {
	Grant []string `toml:"grant"` // in the words of sdk.Needs
}

// fileLimits are node.Limits and the like, in the file.
type fileLimits struct {
	MaxSessions          *int64  `toml:"max-sessions"`
	MaxRequests          *int64  `toml:"max-requests"`
	MaxInboundSessions   *int64  `toml:"max-inbound-sessions"`
	MaxInboundPerNetwork *int64  `toml:"max-inbound-per-network"`
	MaxDHTSessions       *int64  `toml:"max-dht-sessions"`
	MaxDHTInbound        *int64  `toml:"max-dht-inbound"`
	DHTSessionIdle       *string `toml:"dht-session-idle"`
	ControlMaxCalls      *int64  `toml:"control-max-calls"`
	HandlerMaxCalls      *int64  `toml:"handler-max-calls"`
	HandlerMaxQueue      *int64  `toml:"handler-max-queue"`
	HandlerStartTimeout  *string `toml:"handler-start-timeout"`
	HandlerDrainTimeout  *string `toml:"handler-drain-timeout"`
	HandlerSwapTimeout   *string `toml:"handler-swap-timeout"`
	HandlerRestartWait   *string `toml:"handler-restart-wait"`
	HandlerInitTimeout   *string `toml:"handler-init-timeout"`
	HandlerStuckAfter    *string `toml:"handler-stuck-after"`
	HandlerSandbox       *string `toml:"handler-sandbox"`
	HandlerMemory        *int64  `toml:"handler-memory"`
	HandlerProcesses     *int64  `toml:"handler-processes"`
	HandlerOpenFiles     *int64  `toml:"handler-open-files"`
	ChainMaxEntries      *int64  `toml:"chain-max-entries"`
	ChainMaxEntry        *int64  `toml:"chain-max-entry"`
	ChainMaxBatch        *int64  `toml:"chain-max-batch"`
	ChainMaxQuery        *int64  `toml:"chain-max-query"`
	ChainReplyCount      *int64  `toml:"chain-reply-count"`
	ChainReplyBytes      *int64  `toml:"chain-reply-bytes"`
	PublicEntries        *int64  `toml:"public-entries"`
	PublicSearches       *int64  `toml:"public-searches"`
	PublicRevocations    *int64  `toml:"public-revocations"`
	MaxGrants            *int64  `toml:"max-grants"`
	MaxClaims            *int64  `toml:"max-claims"`
	MaxClaimsPerAgent    *int64  `toml:"max-claims-per-agent"`
	PolicyMaxAgents      *int64  `toml:"policy-max-agents"`
	NotifyQueue          *int64  `toml:"notify-queue"`
	NotifyBytes          *int64  `toml:"notify-bytes"`
	NotifyInbox          *int64  `toml:"notify-inbox"`
}

type fileDNASettings struct {
	NetworkSeed string `toml:"network-seed"`
	// Properties is a table, or a string of JSON.
	Properties any `toml:"properties"`
}

// readSettings reads DIR/parley.toml; without one there are no settings.
func readSettings(dir string) (*fileSettings, error) {
	path := filepath.Join(dir, settingsFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &fileSettings{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSettingsFile+1))
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if len(b) > maxSettingsFile {
		return nil, usagef("%s: more than %d bytes", path, maxSettingsFile)
	}
	s, err := parseSettings(b)
	if err != nil {
		return nil, usagef("%s: %w", path, err)
	}
	if s.Plugins != nil && !filepath.IsAbs(*s.Plugins) {
		*s.Plugins = filepath.Join(dir, *s.Plugins)
	}
	return s, nil
}

// parseSettings names the line of whatever is wrong.
func parseSettings(b []byte) (*fileSettings, error) {
	var s fileSettings
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&s)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for i := range unknown.Errors {
			line, _ := unknown.Errors[i].Position()
			errs = append(errs, fmt.Errorf("line %d: %s is no setting", line, strings.Join(unknown.Errors[i].Key(), ".")))
		}
		return nil, errors.Join(errs...)
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		if key := wrong.Key(); len(key) > 0 {
			return nil, fmt.Errorf("line %d: %s: a value of another type is expected; parley run --help shows examples", line, strings.Join(key, "."))
		}
		return nil, fmt.Errorf("line %d, column %d: %w", line, column, err)
	case err != nil:
		return nil, err
	}
	return &s, nil
}

// flags are the settings as the flags of the same names take them.
func (s *fileSettings) flags() map[string]string {
	m := map[string]string{}
	collectFlags(m, reflect.ValueOf(s).Elem())
	return m
}

// collectFlags adds the fields of a struct that are set, by their toml tags.
func collectFlags(m map[string]string, s reflect.Value) {
	for i := range s.NumField() {
		if s.Type().Field(i).Anonymous {
			collectFlags(m, s.Field(i))
			continue
		}
		name := s.Type().Field(i).Tag.Get("toml")
		switch v := s.Field(i).Interface().(type) {
		case *string:
			if v != nil {
				m[name] = *v
			}
		case *int64:
			if v != nil {
				m[name] = strconv.FormatInt(*v, 10)
			}
		case *bool:
			if v != nil {
				m[name] = strconv.FormatBool(*v)
			}
		case []string:
			if len(v) > 0 {
				m[name] = strings.Join(v, ",")
			}
		}
	}
}

// grants are the settings of [handler."FILE"] tables.
func (s *fileSettings) grants() map[string][]string {
	out := map[string][]string{}
	for file, h := range s.Handler {
		out[file] = h.Grant
	}
	return out
}

// dnas are the settings of [dna.NAME] tables.
func (s *fileSettings) dnas() (map[string]node.DNASettings, error) {
	out := map[string]node.DNASettings{}
	var errs []error
	for name, d := range s.DNA {
		p, err := properties(d.Properties)
		if err != nil {
			errs = append(errs, fmt.Errorf("dna.%s.properties: %w", name, err))
		}
		out[name] = node.DNASettings{NetworkSeed: d.NetworkSeed, Properties: p}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &usageError{err}
	}
	return out, nil
}

// properties makes v compact JSON with sorted keys. Properties are part of the
// DNA's hash: how they are spaced and ordered must not matter.
func properties(v any) ([]byte, error) {
	switch p := v.(type) {
	case nil:
		return nil, nil
	case string:
		d := json.NewDecoder(strings.NewReader(p))
		d.UseNumber() // numbers stay as they were written
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("not JSON: data follows the value")
		}
	case map[string]any:
		if err := plainTOML(p); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("a table, or a string of JSON expected")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// plainTOML refuses what JSON has no form of its own for.
func plainTOML(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if err := plainTOML(e); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
	case []any:
		for _, e := range v {
			if err := plainTOML(e); err != nil {
				return err
			}
		}
	case string, bool, int64, float64:
	default:
		return fmt.Errorf("a value of type %T has no form in JSON; write it as a string", v)
	}
	return nil
}
