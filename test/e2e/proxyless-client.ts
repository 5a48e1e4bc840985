/** An application without a proxy: calls `argv[2]` once by xDS and prints the answer. Its bootstrap is in the environment. */
import { Client, credentials } from '@grpc/grpc-js';
import { register } from '@grpc/grpc-js-xds';

register();
const client = new Client(process.argv[2] ?? '', credentials.createInsecure());
const plain = (bytes: Buffer) => bytes;
client.makeUnaryRequest(
  '/test.Echo/Echo',
  plain,
  plain,
  Buffer.from('hello'),
  { deadline: Date.now() + 20_000 },
  (error, answer) => {
    console.log(error === null ? `answer ${String(answer)}` : `failure ${error.message}`);
    process.exit(error === null ? 0 : 1);
  },
);
