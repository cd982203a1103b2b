"""The clients of the Hub against :mod:`hub_server`, over HTTP: who may do what, branches, ranges, data sets.

Uploads by the newer Xet protocol are not covered (see there).
"""

import json

import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import EXAMPLES
from hub_server import hub_server

CLIENT = """
import json, os, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except HfHubHTTPError as error:
        return [type(error).__name__, error.response.status_code]
    return None

folder, facts = sys.argv[1], {}
api, stranger, wrong = HfApi(), HfApi(token=False), HfApi(token="hf_wrong")
facts["name"] = api.whoami()["name"]
facts["anonymous create"] = refused(stranger.create_repo, "user/mine")
facts["wrong create"] = refused(wrong.create_repo, "user/mine")
facts["foreign create"] = refused(api.create_repo, "other/mine")
api.create_repo("user/mine", private=True)
facts["twice"] = refused(api.create_repo, "user/mine")
api.create_repo("user/mine", exist_ok=True)
content = {"a.txt": b"text", "deep/er/b.bin": b"0123456789", "weights.safetensors": bytes(range(256)) * 100}
for path, data in content.items():
    api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id="user/mine")
facts["anonymous write"] = refused(
    stranger.upload_file, path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="user/mine"
)
facts["anonymous read"] = refused(stranger.model_info, "user/mine")
facts["wrong read"] = refused(wrong.model_info, "user/mine")
facts["missing revision"] = refused(api.model_info, "user/mine", revision="none")
api.create_branch("user/mine", branch="feature/x")
api.upload_file(path_or_fileobj=b"new", path_in_repo="a.txt", repo_id="user/mine", revision="feature/x")
facts["files"] = sorted(sibling.rfilename for sibling in api.model_info("user/mine").siblings)
facts["tree"] = sorted(item.path for item in api.list_repo_tree("user/mine", "deep", recursive=True))
facts["sizes"] = [info.size for info in api.get_paths_info("user/mine", ["weights.safetensors", "a.txt", "none"])]
facts["refs"] = sorted(branch.name for branch in api.list_repo_refs("user/mine").branches)
facts["exists"] = [api.file_exists("user/mine", "a.txt"), api.file_exists("user/mine", "b.txt")]
main = snapshot_download("user/mine")
facts["equal"] = all(open(f"{main}/{path}", "rb").read() == data for path, data in content.items())
branch = hf_hub_download("user/mine", "a.txt", revision="feature/x")
facts["branch"] = open(branch).read()
facts["commit"] = api.model_info("user/mine").sha == os.path.basename(main)
api.delete_file("a.txt", "user/mine")
facts["deleted"] = api.file_exists("user/mine", "a.txt")

from datasets import Image, load_dataset
api.create_repo("user/data", repo_type="dataset")
api.upload_folder(folder_path=folder, repo_id="user/data", repo_type="dataset")
data = load_dataset("user/data", split="train").cast_column("image", Image(decode=False))
facts["captions"] = data["caption"][:]
os.makedirs("out")
for i, row in enumerate(data):
    open(f"out/{i}", "wb").write(row["image"]["bytes"])
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    return [path.read_bytes() for path in sorted(EXAMPLES.glob("*.jpg"))[:3]]


def test_clients_over_http(tmp_path, photographs):
    data = tmp_path / "data set"
    (data / "data").mkdir(parents=True)
    images = [{"bytes": photograph, "path": f"{i}.jpg"} for i, photograph in enumerate(photographs)]
    captions = ["a red bus", "a boat", ""]
    table = pa.table({"image": images, "caption": captions})
    features = {"image": {"_type": "Image"}, "caption": {"dtype": "string", "_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), data / "data" / "train-00000-of-00001.parquet")
    (data / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\n# Photographs\n")

    with hub_server() as hub:
        process = processes.run("-c", CLIENT, data, env=hub.environment(tmp_path / "home", hub.token), cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        stored = hub.repos["datasets", "user/data"].files()
        requests = hub.requests
    facts = json.loads(process.stdout.splitlines()[-1])

    assert facts["name"] == "user"
    assert facts["anonymous create"] == facts["wrong create"] == ["HfHubHTTPError", 401]
    assert facts["foreign create"][1] == 403
    assert facts["twice"] == ["HfHubHTTPError", 409]
    assert facts["anonymous write"][1] == facts["anonymous read"][1] == facts["wrong read"][1] == 401
    assert facts["anonymous read"][0] == "RepositoryNotFoundError"
    assert facts["missing revision"] == ["RevisionNotFoundError", 404]
    assert facts["files"] == [".gitattributes", "a.txt", "deep/er/b.bin", "weights.safetensors"]
    assert facts["tree"] == ["deep/er", "deep/er/b.bin"]
    assert sorted(facts["sizes"]) == [4, 25600]
    assert facts["refs"] == ["feature/x", "main"]
    assert facts["exists"] == [True, False] and facts["deleted"] is False
    assert facts["equal"] and facts["commit"] and facts["branch"] == "new"

    # The data set: stored byte for byte, and read back so
    assert stored["data/train-00000-of-00001.parquet"] == (data / "data/train-00000-of-00001.parquet").read_bytes()
    assert facts["captions"] == captions
    assert [(tmp_path / "out" / str(i)).read_bytes() for i in range(len(photographs))] == photographs
    assert any(method == "PUT" for method, _, _ in requests)  # by LFS
