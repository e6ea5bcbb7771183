package node

import (
	"errors"
	"io"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// VerifyExport checks an exported chain, from any node, and needs none that
// runs. Damage is a result, as it is of VerifyChain; the error is one of reading.
func VerifyExport(r io.Reader) (control.VerifyResult, error) { return verifyExport(r, nil) }

func verifyExport(r io.Reader, visit func(*sdk.Record) error) (control.VerifyResult, error) {
	i, err := chain.VerifyExportWith(r, visit)
	v := control.VerifyResult{DNA: i.Name, Hash: i.DNA, Author: i.Author, Records: i.Records, Withheld: i.Withheld}
	var wrong *chain.ExportError
	switch {
	case err == nil:
		v.Valid, v.Head = true, i.Head
	case errors.As(err, &wrong) && (wrong.Err == nil || errors.Is(wrong.Err, io.EOF) || errors.Is(wrong.Err, io.ErrUnexpectedEOF)):
		v.Wrong, v.Reason = wrong.Seq, wrong.Reason
	default:
		return v, err
	}
	return v, nil
}
