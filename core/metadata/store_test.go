package metadata_test

import (
	"testing"

	"github.com/eiderdb/eider/core/metadata/metadatatest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStoreOverMemory(t *testing.T) {
	metadatatest.RunStore(t, func(*testing.T) metadatatest.Opener { return newDatabase().open })
}
