# A JSON Schema's verdict on a value, without nixpkgs: the keywords that boards.schema.json uses, each as
# JSON Schema 2020-12 defines it. A keyword that is not known here is an error and not a pass.
#
#   check schema value   what is wrong with the value, as a list of "path: reason"; empty if nothing is
let
  inherit (builtins) attrNames concatLists concatMap elem elemAt filter genList hasAttr head
    isAttrs isBool isList isString length match tail toJSON;

  # What says nothing about a value.
  annotations = [ "$schema" "title" "description" ];

  types = {
    array = isList;
    boolean = isBool;
    object = isAttrs;
    string = isString;
  };

  unique = list: list == [ ] || (!elem (head list) (tail list) && unique (tail list));

  # keyword -> its argument, the schema it stands in, where the value is, the value -> what is wrong. A
  # keyword says nothing of values that are of another type than the one it is for.
  keywords = {
    type = type: _: at: value:
      if types.${type} value then [ ] else [ "${at}: is not of type ${type}" ];

    enum = allowed: _: at: value:
      if elem value allowed then [ ] else [ "${at}: ${toJSON value} is none of ${toJSON allowed}" ];

    # All of our patterns are anchored, as Nix's always are.
    pattern = pattern: _: at: value:
      if !isString value || match pattern value != null then [ ]
      else [ "${at}: ${toJSON value} does not match ${pattern}" ];

    required = names: _: at: value:
      if !isAttrs value then [ ]
      else map (name: "${at}: ${name} is missing") (filter (name: !hasAttr name value) names);

    properties = properties: _: at: value:
      if !isAttrs value then [ ]
      else
        concatMap (name: checkAt properties.${name} "${at}.${name}" value.${name})
          (filter (name: hasAttr name properties) (attrNames value));

    additionalProperties = allowed: schema: at: value:
      if allowed || !isAttrs value then [ ]
      else
        map (name: "${at}: ${name} is not known")
          (filter (name: !hasAttr name (schema.properties or { })) (attrNames value));

    items = item: _: at: value:
      if !isList value then [ ]
      else concatLists (genList (n: checkAt item "${at}[${toString n}]" (elemAt value n)) (length value));

    minItems = least: _: at: value:
      if !isList value || length value >= least then [ ]
      else [ "${at}: has fewer than ${toString least} items" ];

    uniqueItems = wanted: _: at: value:
      if !wanted || !isList value || unique value then [ ] else [ "${at}: has an item twice" ];
  };

  checkAt = schema: at: value:
    concatMap
      (keyword:
        if elem keyword annotations then [ ]
        else
          (keywords.${keyword} or (throw "schema.nix: the keyword ${keyword} is not known"))
            schema.${keyword}
            schema
            at
            value)
      (attrNames schema);
in
{
  check = schema: checkAt schema "board";
}
