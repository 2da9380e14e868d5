"""Signs what is on standard input as botocore does, and prints the signatures."""

import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

for asked in json.load(sys.stdin):
    auth = SigV4Auth(
        Credentials(asked["id"], asked["secret"], asked["token"]), "route53", "us-east-1"
    )
    request = AWSRequest(asked["method"], asked["url"], {}, asked["body"].encode())
    request.context["timestamp"] = asked["time"]
    request.headers["Host"] = asked["host"]
    request.headers["X-Amz-Date"] = asked["time"]
    if asked["token"]:
        request.headers["X-Amz-Security-Token"] = asked["token"]
    text = auth.string_to_sign(request, auth.canonical_request(request))
    sys.stdout.write(auth.signature(text, request) + "\n")
