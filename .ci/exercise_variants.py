"""The solutions written otherwise: wrong ones, each with the check that finds it and a part of what it says, and right ones.

Each is made by replacing text in one of the solutions, which has to be there exactly once.
"""

SIGNS, LAYER, TRAIN = "traffic_sign_inference.py", "feature_extraction.py", "train_feature_extraction.py"

RESIZE = "return tf.image.resize_images(signs, size)"
MEAN = "images - tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)"
CAST = "images = tf.cast(images, tf.float32)\n    "
RESIZED = "tf.image.resize_images(images, (227, 227))"
ALEXNET = "AlexNet(resized, feature_extract=True, weights=weights)"
STOP = "return tf.stop_gradient(fc7)"
LOGITS = "return tf.matmul(fc7, W) + b"
INITIAL = "tf.truncated_normal([4096, gtsrb.CLASSES], stddev=0.01, seed=0)"
BIAS = "tf.Variable(tf.zeros([gtsrb.CLASSES]))"
LOSSES = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)"
ADAM = "tf.train.AdamOptimizer()"
MINIMIZE = "return optimizer.minimize(loss)"
CORRECT = "tf.equal(tf.argmax(logits, axis=1), labels)"
PART = "return tf.reduce_mean(tf.cast(correct, tf.float32))"
ORDER = "order = np.random.RandomState(0).permutation(len(labels))"
PARTS = "return features[training], labels[training], features[validation], labels[validation]"
SHUFFLE = "order = np.random.permutation(len(labels))"
YIELD = "yield features[rows], labels[rows]"
LOOP = "for batch in batches(features, labels, BATCH):"
SUM = "sums += np.multiply(session.run(measures, dict(zip(inputs, batch))), len(batch[1]))"
MEANS = "return sums / len(labels)"
STEP = "step = train_step(measures[0])"
INITIALIZE = "session.run(tf.global_variables_initializer())"
FEED = "session.run(step, {fc7: X_batch, labels: y_batch})"
LOGITS_LINE = "logits = new_layer(fc7)"
EPOCH = "for epoch in range(EPOCHS):\n"

WRONG = [  # name, file, replacements, the check that finds it, a part of what it says
    ("nothing returned", SIGNS, {RESIZE: RESIZE.removeprefix("return ")}, "resize", "lack its `return`"),
    ("resized to 224", SIGNS, {"(227, 227)": "(224, 224)"}, "resize", "224x224 pixels, but this AlexNet takes 227x227"),
    ("nearest neighbour", SIGNS, {"(signs, size)": "(signs, size, method=tf.image.ResizeMethod.NEAREST_NEIGHBOR)"}, "resize",
     "nearest pixel"),
    ("align_corners", SIGNS, {"(signs, size)": "(signs, size, align_corners=True)"}, "resize", "aligns the corners"),
    ("TF2's resize", SIGNS, {"tf.image.resize_images": "tf.image.resize",
                             "import tensorflow.compat.v1 as tf": "import tensorflow as tf"}, "resize", "half-pixel centres"),
    ("half_pixel_centers", SIGNS, {"tf.image.resize_images(signs, size)":
                                   "tf.image.resize_bilinear(signs, size, half_pixel_centers=True)"}, "resize", "half-pixel"),
    ("TF2 imported", SIGNS, {"import tensorflow.compat.v1 as tf": "import tensorflow as tf"}, "resize",
     "import tensorflow.compat.v1 as tf"),
    ("bicubic", SIGNS, {"(signs, size)": "(signs, size, method=tf.image.ResizeMethod.BICUBIC)"}, "resize",
     "the pixel values differ"),
    ("resized by NumPy", SIGNS, {RESIZE: "import numpy as np\n    return np.repeat(signs, 7, axis=1)"}, "resize",
     "NumPy cannot compute on a tensor"),
    ("resized in Python", SIGNS, {RESIZE: "import numpy as np\n    answer = tf.numpy_function(lambda a: np.resize(a, (len(a), "
                                  "227, 227, 3)), [signs], tf.float32)\n    return tf.ensure_shape(answer, [None, 227, 227, "
                                  "3])"},
     "resize", "outside the graph"),
    ("divided by 255 too", SIGNS, {"(signs, size)": "(signs / 255, size)"}, "resize", "divides the pixels by 255"),
    ("sys.exit", SIGNS, {RESIZE: "sys.exit()"}, "resize", "ends the program"),
    ("os._exit", SIGNS, {RESIZE: "import os\n    os._exit(0)"}, "resize", "ends the program by itself"),
    ("a wrong import", SIGNS, {"import sys\n": "import sys, sis\n"}, "resize", "cannot be loaded: line"),
    ("exit at import", SIGNS, {"\n\ndef main(": "\nsys.exit(0)\n\ndef main("}, "resize", "ends the program"),
    ("no Python", SIGNS, {RESIZE: RESIZE[:-1]}, "resize", "cannot be read: line"),
    ("a misspelt function", SIGNS, {"resize_images": "resize_image"}, "resize",
     "tf.image has nothing called resize_image (did you mean resize_images?)"),
    ("NumPy's astype", SIGNS, {"(signs, size)": "(signs.astype(float), size)"}, "resize",
     "a tensor has no astype: use tf.cast(tensor, tf.float32)"),
    ("misspelt", SIGNS, {RESIZE: RESIZE.replace("signs", "sign")}, "resize", "the name sign is not known here"),

    ("no mean", LAYER, {f"images = {MEAN}\n    ": ""}, "fc7_of", "no mean is subtracted"),
    ("mean of the batch", LAYER, {"axis=[1, 2, 3], keepdims=True": ""}, "fc7_of", "that of the whole batch"),
    ("keepdims forgotten", LAYER, {", keepdims=True": ""}, "fc7_of", "keepdims=True keeps them"),
    ("session.run in the function", LAYER, {STOP: "with tf.Session() as session:\n        return session.run(fc7)"}, "fc7_of",
     "main runs it"),
    ("mean of each channel", LAYER, {"axis=[1, 2, 3]": "axis=[1, 2]"}, "fc7_of", "each channel loses a mean of its own"),
    ("mean over the batch", LAYER, {"axis=[1, 2, 3]": "axis=[0]"}, "fc7_of", "over the batch (axis 0)"),
    ("mean in uint8", LAYER, {CAST: "", f"images = {MEAN}": f"images = tf.cast({MEAN}, tf.float32)"}, "fc7_of", "in uint8"),
    ("ImageNet's mean", LAYER, {MEAN: "images - [123.0, 117.0, 104.0]"}, "fc7_of", "ImageNet's mean"),
    ("divided by 255", LAYER, {MEAN: MEAN + "\n    images = images / 255"}, "fc7_of", "divided by 255"),
    ("channels swapped", LAYER, {RESIZED: "tf.image.resize_images(images[..., ::-1], (227, 227))"}, "fc7_of", "swapped to BGR"),
    ("swapped as in NumPy", LAYER, {f"images = {MEAN}": f"images = {MEAN}\n    images[..., 0], images[..., 2] = images[..., "
                                    "2], images[..., 0]"}, "fc7_of", "a tensor cannot be changed in place"),
    ("two channels the same", LAYER, {RESIZED: "tf.image.resize_images(tf.gather(images, [2, 1, 2], axis=3), (227, 227))"},
     "fc7_of", "two channels are the same"),
    ("not cast", LAYER, {CAST: "", f"images = {MEAN}\n    ": "",
                         RESIZED: "tf.image.resize_nearest_neighbor(images, (227, 227))"},
     "fc7_of", "AlexNet takes float32, but gets uint8"),
    ("224 for AlexNet", LAYER, {"(227, 227)": "(224, 224)"}, "fc7_of", "the images are 224x224, but AlexNet takes 227x227"),
    ("aligned corners", LAYER, {RESIZED: "tf.image.resize_images(images, (227, 227), align_corners=True)"}, "fc7_of",
     "aligns the corners"),
    ("feature_extract forgotten", LAYER, {"feature_extract=True, ": ""}, "fc7_of", "feature_extract=True is missing"),
    ("weights forgotten", LAYER, {", weights=weights)\n": ")\n"}, "fc7_of", "not given the weights"),
    ("fc7 rescaled", LAYER, {STOP: "return tf.nn.l2_normalize(tf.stop_gradient(fc7), axis=1)"}, "fc7_of",
     "what comes out of AlexNet is changed"),

    ("softmax in the layer", LAYER, {LOGITS: "return tf.nn.softmax(tf.matmul(fc7, W) + b)"}, "new_layer", "ends in a softmax"),
    ("sigmoid in the layer", LAYER, {LOGITS: "return tf.nn.sigmoid(tf.matmul(fc7, W) + b)"}, "new_layer", "ends in a sigmoid"),
    ("ReLU in the layer", LAYER, {LOGITS: "return tf.nn.relu(tf.matmul(fc7, W) + b)"}, "new_layer", "ends in a ReLU"),
    ("weights too large", LAYER, {", stddev=0.01": ""}, "new_layer", "the weights start too large"),
    ("no bias", LAYER, {LOGITS: "return tf.matmul(fc7, W)"}, "new_layer",
     "the variable of shape [43] is made, but"),
    ("bias forgotten", LAYER, {f"b = {BIAS}\n    ": "", LOGITS: "return tf.matmul(fc7, W)"}, "new_layer", "has no biases"),
    ("1000 classes", LAYER, {"[4096, gtsrb.CLASSES]": "[4096, 1000]", "[gtsrb.CLASSES]))": "[1000]))"}, "new_layer",
     "the shape (N, 1000), but (N, 43) is wanted"),
    ("no variables", LAYER, {f"tf.Variable({INITIAL})": INITIAL, BIAS: "tf.zeros([gtsrb.CLASSES])"}, "new_layer",
     "no variables that training could change"),
    ("weights drawn anew", LAYER, {f"tf.Variable({INITIAL})": INITIAL}, "new_layer", "only the biases are trained"),
    ("weights not trainable", LAYER, {INITIAL: INITIAL + ", trainable=False"}, "new_layer", "only the biases are trained"),
    ("a hidden layer drawn anew", LAYER, {"W = tf": "fc7 = tf.matmul(fc7, tf.truncated_normal([4096, 64], stddev=0.01))\n    "
                                          "W = tf", "[4096, gtsrb": "[64, gtsrb"}, "new_layer", "drawn anew each time"),
    ("tf.layers", LAYER, {LOGITS: "return tf.layers.dense(fc7, 43)"}, "new_layer", "tf.layers does not work"),
    ("np without its import", LAYER, {BIAS: "tf.Variable(np.zeros(43, 'float32'))"}, "new_layer", "np is not imported here"),
    ("a hidden layer not trainable", LAYER, {"W = tf": "fc7 = tf.matmul(fc7, tf.Variable(tf.truncated_normal([4096, 64], "
                                             "stddev=0.01), trainable=False))\n    W = tf", "[4096, gtsrb": "[64, gtsrb"},
     "new_layer", "of shape [4096, 64] do not change"),
    ("plain biases", LAYER, {BIAS: "tf.zeros([gtsrb.CLASSES])"}, "new_layer", "the biases are not 43 trainable numbers"),
    ("one bias", LAYER, {BIAS: "tf.Variable(tf.zeros([1]))"}, "new_layer", "the biases are not 43 trainable numbers"),
    ("biases not trainable", LAYER, {BIAS: BIAS[:-1] + ", trainable=False)"}, "new_layer",
     "the biases are not 43 trainable numbers"),
    ("large biases", LAYER, {BIAS: "tf.Variable(tf.random.normal([gtsrb.CLASSES], stddev=9))"}, "new_layer",
     "the biases do not start as zeros"),
    ("turned weights", LAYER, {"[4096, gtsrb.CLASSES]": "[gtsrb.CLASSES, 4096]"}, "new_layer", "do not fit together"),
    ("logits stopped", LAYER, {LOGITS: "return tf.stop_gradient(tf.matmul(fc7, W) + b)", STOP: "return fc7"}, "new_layer",
     "a tf.stop_gradient on the logits stops all learning"),

    ("no stop_gradient", LAYER, {STOP: "return fc7"}, "freeze", "no tf.stop_gradient is on the way"),
    ("stop_gradient not used", LAYER, {STOP: "tf.stop_gradient(fc7)\n    return fc7"}, "freeze", "its result is not used"),
    ("BGR in inference only", LAYER, {"session.run(probabilities, {images: features})":
     "session.run(probabilities, {images: features[..., ::-1]})"}, "extraction", "feeds the photos as BGR"),
    ("no initializer", LAYER, {"        session.run(tf.global_variables_initializer())\n": ""}, "extraction", "a variable has "
     "no value"),
    ("logits stopped in main", TRAIN, {LOGITS_LINE: "logits = tf.stop_gradient(new_layer(fc7))"}, "training", "no gradient "
     "reaches"),
    ("resized before it is fed", SIGNS, {"{images: features}": "{images: features.repeat(7, 1).repeat(7, 2)}"}, "inference",
     "what is fed has shape (2, 224, 224, 3)"),
    ("the images stopped, not fc7", LAYER, {STOP: "return fc7", "resized = ": "resized = tf.stop_gradient(",
                                            RESIZED: RESIZED + ")"},
     "freeze", "AlexNet is not frozen"),

    ("softmax twice", TRAIN, {"logits=logits)": "logits=tf.nn.softmax(logits))"}, "loss",
     "a softmax is applied before the loss"),
    ("sigmoid first", TRAIN, {"logits=logits)": "logits=tf.sigmoid(logits))"}, "loss", "a sigmoid is applied before the loss"),
    ("ReLU first", TRAIN, {"logits=logits)": "logits=tf.nn.relu(logits))"}, "loss", "a ReLU is applied before the loss"),
    ("one-hot labels", TRAIN, {"(labels=labels,": "(labels=tf.one_hot(labels, 43, dtype=tf.int64),"}, "loss",
     "the sparse cross-entropy takes class numbers"),
    ("logits first", TRAIN, {"labels=labels, logits=logits": "logits, labels"}, "loss", "labels and logits are swapped"),
    ("class numbers for the dense loss", TRAIN, {"sparse_softmax": "softmax"}, "loss", "the dense one takes one-hot rows"),
    ("float labels", TRAIN, {"(labels=labels,": "(labels=tf.cast(labels, tf.float32),"}, "loss", "int64, not floats"),
    ("sum", TRAIN, {"tf.reduce_mean(losses)": "tf.reduce_sum(losses)"}, "loss", "their mean is wanted"),
    ("no mean of the losses", TRAIN, {"tf.reduce_mean(losses)": "losses"}, "loss", "one number for each photo"),
    ("sigmoid's loss", TRAIN, {LOSSES: "tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.one_hot(labels, 43), logits=logits)"},
     "loss", "the sigmoid's cross-entropy"),
    ("sign", TRAIN, {"tf.reduce_mean(losses)": "-tf.reduce_mean(losses)"}, "loss", "the sign is wrong"),
    ("squares", TRAIN, {LOSSES: "(tf.nn.softmax(logits) - tf.one_hot(labels, 43)) ** 2"}, "loss", "a mean of squares"),

    ("learning rate 1", TRAIN, {ADAM: "tf.train.AdamOptimizer(1.0)"}, "train_step", "the learning rate too high"),
    ("learning rate tiny", TRAIN, {ADAM: "tf.train.AdamOptimizer(1e-7)"}, "train_step", "the steps are too short"),
    ("gradients only", TRAIN, {"optimizer.minimize(loss)": "optimizer.compute_gradients(loss)"}, "train_step",
     "returns an object of type list: the operation"),
    ("nothing changes", TRAIN, {"optimizer.minimize(loss)": "loss"}, "train_step", "variables are what they were"),
    ("maximised", TRAIN, {"optimizer.minimize(loss)": "optimizer.minimize(-loss)"}, "train_step", "raise the loss"),
    ("the class, not an optimizer", TRAIN, {ADAM: "tf.train.AdamOptimizer"}, "train_step", "create the optimizer first"),
    ("only the biases", TRAIN, {"minimize(loss)": "minimize(loss, var_list=tf.trainable_variables()[-1:])"}, "train_step",
     "only the biases are trained"),
    ("TF2's optimizer", TRAIN, {"import tensorflow.compat.v1 as tf\n": "import tensorflow as tf\n"}, "train_step",
     "import tensorflow.compat.v1 as tf"),

    ("argmax over the batch", TRAIN, {"axis=1": "axis=0"}, "accuracy", "over the batch (axis 0)"),
    ("Python's ==", TRAIN, {CORRECT: "tf.argmax(logits, axis=1) == labels"}, "accuracy", "tf.equal does"),
    ("percent", TRAIN, {PART: "return 100 * tf.reduce_mean(tf.cast(correct, tf.float32))"}, "accuracy", "a percentage"),
    ("whole numbers", TRAIN, {"tf.cast(correct, tf.float32)": "tf.cast(correct, tf.int32)"}, "accuracy", "a whole number"),
    ("counted", TRAIN, {PART: "return tf.reduce_sum(tf.cast(correct, tf.float32))"}, "accuracy", "it counts the right answers"),
    ("dtypes", TRAIN, {"axis=1)": "axis=1, output_type=tf.int32)"}, "accuracy", "different dtypes meet, int64 and int32"),
    ("a boolean's mean", TRAIN, {CORRECT: "tf.argmax(logits, axis=1) != labels", PART: "return correct.mean()"}, "accuracy",
     "use tf.equal or tf.not_equal"),
    ("a tensor's mean", TRAIN, {PART: "return tf.cast(correct, tf.float32).mean()"}, "accuracy", "use tf.reduce_mean"),
    ("a tensor's length", TRAIN, {PART: "return tf.reduce_sum(tf.cast(correct, tf.float32)) / len(labels)"}, "accuracy",
     "use tf.shape(tensor)[0]"),
    ("one answer a photo", TRAIN, {PART: "return tf.cast(correct, tf.float32)"}, "accuracy", "one answer for each photo"),

    ("no shuffling before the split", TRAIN, {ORDER: "order = np.arange(len(labels))"}, "split", "not shuffled before they "
     "are split"),
    ("trained on all", TRAIN, {PARTS: "return features, labels, features[validation], labels[validation]"}, "split",
     "photos that validate are trained on too"),
    ("split without the labels", TRAIN, {PARTS: PARTS.replace("labels[training]", "labels[held_out:]"),
                                         "validation, training": "held_out = int(np.ceil(0.33 * len(order)))\n    validation, "
                                         "training"},
     "split", "no longer belong together"),
    ("parts changed places", TRAIN, {"validation, training": "training, validation"}, "split", "are swapped"),
    ("scikit-learn's order", TRAIN, {PARTS: "return features[training], features[validation], labels[training], "
                                     "labels[validation]"},
     "split", "the order is scikit-learn's"),

    ("lists from split", TRAIN, {PARTS: PARTS.replace("labels[training]", "list(labels[training])")}, "split",
     "type list among its four results"),
    ("np.random.shuffle's result split", TRAIN, {ORDER: "order = np.random.shuffle(np.arange(len(labels)))"}, "split",
     "np.random.shuffle works in place"),
    ("split in place", TRAIN, {PARTS: "features[:], labels[:] = features[order], labels[order]\n    held_out = "
                               "len(validation)\n    return features[held_out:], labels[held_out:], features[:held_out], "
                               "labels[:held_out]"}, "split", "changes the arrays it is given"),

    ("no shuffling", TRAIN, {SHUFFLE: "order = np.arange(len(labels))"}, "batches", "not shuffled"),
    ("shuffled within the batch only", TRAIN, {SHUFFLE: "order = np.arange(len(labels))", YIELD:
                                               "rows = np.random.permutation(rows)\n        " + YIELD}, "batches", "not "
     "shuffled"),
    ("photos shuffled without their labels", TRAIN, {YIELD: "yield features[rows], labels[start:start + size]"}, "batches",
     "no longer belong together"),
    ("shuffled in place", TRAIN, {SHUFFLE: "np.random.shuffle(features)\n    order = np.arange(len(labels))"}, "batches",
     "no longer belong together"),
    ("short batch dropped", TRAIN, {"range(0, len(labels), size)": "range(0, len(labels) - size + 1, size)"}, "batches",
     "the last, short batch is dropped"),
    ("drawn with replacement", TRAIN, {SHUFFLE: "order = np.random.randint(0, len(labels), len(labels))"}, "batches", "come "
     "twice"),
    ("np.random.shuffle's result", TRAIN, {SHUFFLE: "order = np.random.shuffle(np.arange(len(labels)))"}, "batches",
     "np.random.shuffle works in place"),
    ("return for yield", TRAIN, {YIELD: YIELD.replace("yield", "return")}, "batches", "returns one batch"),
    ("no end", TRAIN, {"for start in range(0, len(labels), size):": "import itertools\n    for start in "
                       "itertools.cycle(range(0, len(labels), size)):"}, "batches", "never stops"),
    ("an empty last batch", TRAIN, {"range(0, len(labels), size)": "range(0, len(labels) + 1, size)"}, "batches",
     "the last batch is empty"),
    ("lists from batches", TRAIN, {YIELD: "yield list(features[rows]), list(labels[rows])"}, "batches", "type list"),
    ("labels first", TRAIN, {YIELD: "yield labels[rows], features[rows]"}, "batches", "the labels come first"),
    ("only row numbers", TRAIN, {YIELD: "yield rows"}, "batches", "yields a pair each time"),

    ("last batch only", TRAIN, {"sums +=": "sums =", SUM.removeprefix("sums += "): "np.array(session.run(measures, "
                                "dict(zip(inputs, batch))))", MEANS: "return sums"}, "evaluate", "the last batch alone"),
    ("unweighted mean", TRAIN, {SUM: "sums += session.run(measures, dict(zip(inputs, batch)))",
                                MEANS: "return sums / np.ceil(len(labels) / BATCH)"}, "evaluate", "each batch counts the same"),
    ("last short batch dropped", TRAIN, {LOOP: "whole = len(labels) // BATCH * BATCH\n    for batch in "
                                         "batches(features[:whole], labels[:whole], "
                                         "BATCH):", MEANS: "return sums / whole"}, "evaluate",
     "the last, short batch is dropped"),
    ("accuracy first", TRAIN, {MEANS: MEANS.replace("sums", "sums[::-1]")}, "evaluate", "are swapped"),
    ("initializer in evaluate", TRAIN, {"sums = np.zeros(2)": "session.run(tf.global_variables_initializer())\n    sums = "
                                        "np.zeros(2)"},
     "evaluate", "runs the initializer"),
    ("built in evaluate", TRAIN, {"sums = np.zeros(2)":
                                  "sums = np.zeros(2)\n    measures = [tf.identity(m) for m in measures]"},
     "evaluate", "adds operations to the graph"),
    ("a list times a number", TRAIN, {SUM: "sums += session.run(measures, dict(zip(inputs, batch))) * len(batch[1])"},
     "evaluate",
     "a list times a number"),
    ("added up", TRAIN, {MEANS: "return sums"}, "evaluate", "the sum is not divided"),
    ("times BATCH", TRAIN, {"len(batch[1]))": "BATCH)"}, "evaluate", "counted as BATCH photos"),
    ("divided by the photos only", TRAIN, {SUM: "sums += session.run(measures, dict(zip(inputs, batch)))"}, "evaluate",
     "multiply each by its batch's size first"),
    ("divided by the batches", TRAIN, {MEANS: "return sums / np.ceil(len(labels) / BATCH)"}, "evaluate",
     "divided by the number of batches"),
    ("short batch dropped, all counted", TRAIN, {LOOP: "whole = len(labels) // BATCH * BATCH\n    for batch in "
                                                 "batches(features[:whole], labels[:whole], BATCH):"}, "evaluate",
     "the last, short batch is dropped"),
    ("a new session", TRAIN, {"sums = np.zeros(2)": "session = tf.Session()\n    sums = np.zeros(2)"}, "evaluate",
     "this is a new session"),

    ("minimize inside the loop", TRAIN, {FEED: FEED.replace("step",
                                                            "tf.train.GradientDescentOptimizer(0.01).minimize(measures[0])")},
     "training", "the graph grows during the training"),
    ("Adam's minimize inside the loop", TRAIN, {FEED: FEED.replace("step", "train_step(measures[0])")}, "training",
     "a variable has no value yet"),
    ("the layer anew in the loop", TRAIN, {EPOCH: EPOCH + "            new_layer(fc7)\n"}, "training", "the graph grows"),
    ("initializer before Adam's slots", TRAIN, {STEP: "initializer = tf.global_variables_initializer()\n        " + STEP,
                                                INITIALIZE: "session.run(initializer)"}, "training",
     "sets only the variables that exist when it is built"),
    ("initializer each epoch", TRAIN, {EPOCH: EPOCH + "            session.run(tf.global_variables_initializer())\n"},
     "training", "the initializer runs again"),
    ("fixed batch size", TRAIN, {'tf.placeholder(tf.int64, [None], name="labels")': 'tf.placeholder(tf.int64, [8], '
                                                                                    'name="labels")'},
     "training", "the placeholder has a fixed batch size"),
    ("validation photos trained on, in main", TRAIN, {"in batches(X, y, BATCH):": "in batches(features, classes, BATCH):"},
     "training",
     "the photos that validate are trained on too"),
    ("labels of others", TRAIN, {FEED: "session.run(step, {fc7: X_batch, labels: y_batch[::-1]})"}, "training",
     "no longer belong together"),
    ("BGR in training only", TRAIN, {'inference.run(session, fc7, images, photos, ': 'inference.run(session, fc7, images, '
                                     'photos[..., ::-1], '}, "training", "feeds the photos as BGR"),
    ("NumPy's swap", TRAIN, {"        X, y, X_validation": "        X, y, X_validation", "        times = [time.time()]\n":
                             "        photos[..., 0], photos[..., 2] = photos[..., 2], photos[..., 0]\n        times = "
                             "[time.time()]\n"},
     "training", "NumPy's swap"),
    ("divided by 255 in training only", TRAIN, {'fc7, images, photos, ': 'fc7, images, photos // 255, '}, "training",
     "two channels|changes the photos"),
    ("another preparation in training", TRAIN, {"from feature_extraction import fc7_of, new_layer": "from feature_extraction "
                                                "import AlexNet, "
                                                "new_layer", "BATCH, EPOCHS = 128, 10\n": "BATCH, EPOCHS = 128, 10\n\n\ndef "
                                                "fc7_of(images, weights):\n    x = tf.image.resize_images(tf.cast(images, "
                                                "tf.float32), (227, 227))\n    return tf.stop_gradient(AlexNet(x, "
                                                "feature_extract=True, "
                                                "weights=weights))\n"}, "training", "no mean is subtracted"),
]

RIGHT = [  # name, file, replacements, the check that has a remark, a part of it; "" and "" for none
    ("xw_plus_b", LAYER, {LOGITS: "return tf.nn.xw_plus_b(fc7, W, b)"}, "", ""),
    ("matmul and bias_add", LAYER, {LOGITS: "return tf.nn.bias_add(tf.matmul(fc7, W), b)"}, "", ""),
    ("get_variable, other names", LAYER, {f"W = tf.Variable({INITIAL})": 'kernel = tf.get_variable("k", [4096, 43], '
                                                                         'initializer='
     "tf.truncated_normal_initializer(stddev=0.01))", "(fc7, W)": "(fc7, kernel)"}, "", ""),
    ("Keras's layer", LAYER, {LOGITS: "return tf.keras.layers.Dense(43)(fc7)", f"W = tf.Variable({INITIAL})\n    ": "",
                              f"b = {BIAS}\n    ": ""}, "new_layer", "the lab does not use"),
    ("Glorot's weights", LAYER, {f"tf.Variable({INITIAL})": 'tf.get_variable("w", [4096, 43])'}, "", ""),
    ("a hidden layer", LAYER, {"W = tf": "H = tf.Variable(tf.truncated_normal([4096, 64], stddev=0.01))\n    fc7 = "
                               "tf.nn.relu(tf.matmul(fc7, H) + tf.Variable(tf.zeros([64])))\n    W = "
                               "tf", "[4096, gtsrb": "[64, gtsrb"}, "", ""),
    ("biases of ones", LAYER, {BIAS: "tf.Variable(tf.ones([gtsrb.CLASSES]))"}, "new_layer", "as the lab's do"),
    ("zeros", LAYER, {INITIAL: "tf.zeros([4096, 43])"}, "new_layer", "start with the same number"),
    ("the lab's subtract_mean", LAYER, {CAST: "from lab.network.preprocessing import subtract_mean\n    ",
                                        MEAN: "subtract_mean(images)"}, "", ""),
    ("tf.image.resize, which is TF1's here", SIGNS, {"resize_images": "resize"}, "", ""),
    ("mean by sum", LAYER, {MEAN: "images - tf.reduce_sum(images, axis=[1, 2, 3], keepdims=True) / (32 * 32 * 3)"}, "", ""),
    ("resize_bilinear", LAYER, {RESIZED: "tf.image.resize_bilinear(images, [227, 227])"}, "", ""),
    ("mean after the resize", LAYER, {f"images = {MEAN}\n    ": "", f"resized = {RESIZED}": f"images = {RESIZED}\n    resized "
                                      f"= {MEAN}"},
     "fc7_of", "the mean is that of the resized image"),
    ("stopped in the layer", LAYER, {STOP: "return fc7", "(fc7, W)": "(tf.stop_gradient(fc7), W)"}, "", ""),
    ("the dense loss", TRAIN, {LOSSES: "tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.one_hot(labels, 43), "
                               "logits=logits)"},
     "", ""),
    ("log_softmax", TRAIN, {LOSSES: "-tf.reduce_sum(tf.one_hot(labels, 43) * tf.nn.log_softmax(logits), axis=1)"}, "", ""),
    ("log of softmax", TRAIN, {LOSSES: "-tf.reduce_sum(tf.one_hot(labels, 43) * tf.log(tf.nn.softmax(logits)), axis=1)"}, "",
     ""),
    ("log of clipped softmax", TRAIN, {LOSSES: "-tf.reduce_sum(tf.one_hot(labels, 43) * tf.log(tf.nn.softmax(logits) + 1e-9), "
                                       "axis=1)"},
     "loss", "rounds to 0"),
    ("gradient descent", TRAIN, {ADAM: "tf.train.GradientDescentOptimizer(0.01)"}, "train_step", "the lab's Adam"),
    ("Adam at 0.01", TRAIN, {ADAM: "tf.train.AdamOptimizer(0.01)"}, "train_step", "the lab's Adam"),
    ("Adam at 0.0001", TRAIN, {ADAM: "tf.train.AdamOptimizer(0.0001)"}, "train_step", "the lab's Adam"),
    ("Adam at 0.001", TRAIN, {ADAM: "tf.train.AdamOptimizer(learning_rate=0.001)"}, "", ""),
    ("momentum", TRAIN, {ADAM: "tf.train.MomentumOptimizer(0.001, 0.9)"}, "train_step", "the lab's Adam"),
    ("slow gradient descent", TRAIN, {ADAM: "tf.train.GradientDescentOptimizer(0.001)"}, "train_step", "learns slowly"),
    ("RMSProp", TRAIN, {ADAM: "tf.train.RMSPropOptimizer(0.001)"}, "train_step", "the lab's Adam"),
    ("gradients by hand", TRAIN, {MINIMIZE: "variables = [v for v in tf.trainable_variables() if 'alexnet' not in v.name]\n   "
                                  " return tf.group(*[v.assign_sub(0.01 * g) for v, g in zip(variables, tf.gradients(loss, "
                                  "variables))])"}, "train_step", "the lab's Adam"),
    ("compute and apply", TRAIN, {MINIMIZE: "gradients = optimizer.compute_gradients(loss)\n    return "
                                  "optimizer.apply_gradients([(g, v) for g, v in gradients if g is not None])"}, "", ""),
    ("in_top_k", TRAIN, {CORRECT: "tf.nn.in_top_k(logits, labels, 1)"}, "", ""),
    ("accuracy of probabilities", TRAIN, {"tf.argmax(logits": "tf.argmax(tf.nn.softmax(logits)"}, "", ""),
    ("np.random.seed", TRAIN, {ORDER: "np.random.seed(0)\n    order = np.random.permutation(len(labels))"}, "", ""),
    ("a stranger's split", TRAIN, {ORDER: ORDER.replace("(0)", "(7)")}, "split", "another split than the lab's"),
    ("a random split", TRAIN, {ORDER: SHUFFLE}, "split", "another each time"),
    ("a fifth held out", TRAIN, {"ceil(0.33 * len": "ceil(0.2 * len"}, "split", "another split than the lab's"),
    ("a list of batches", TRAIN, {SHUFFLE: "made = []\n    " + SHUFFLE, YIELD: "made.append((features[rows], labels[rows]))",
                                  "\n\n\ndef evaluate": "\n    return made\n\n\ndef evaluate"}, "", ""),
    ("shuffled copies", TRAIN, {SHUFFLE: SHUFFLE + "\n    features, labels = features[order], labels[order]",
                                YIELD: "yield features[start:start + size], labels[start:start + size]"}, "", ""),
    ("the same order each epoch", TRAIN, {SHUFFLE: "order = np.random.RandomState(1).permutation(len(labels))"}, "batches",
     "the same in each epoch"),
    ("evaluated in order", TRAIN, {LOOP: "for i in range(0, len(labels), BATCH):\n        batch = features[i:i + BATCH], "
                                   "labels[i:i + BATCH]"}, "", ""),
    ("all at once", TRAIN, {LOOP: "for batch in [(features, labels)]:"}, "evaluate", "go through at once"),
    ("other names, other comments", TRAIN, {"losses = tf": "# each photo's\n    entropies = tf", "tf.reduce_mean(losses)":
                                            "tf.reduce_mean(entropies)  # of the batch"}, "", ""),
]
